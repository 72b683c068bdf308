"""What people decide enters the memory of past cases, and leaves it when they take it back.

The decision is committed first; the memory follows at once or, while it cannot be reached, as soon as it can. Both
steps may be repeated: an entry has its decision's id, and one that was retracted stays retracted.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from weakref import WeakValueDictionary

import numpy as np
import structlog
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

from services.common.serving.context import bound, current
from services.common.serving.ending import end
from services.common.serving.errors import NotFound, Problem
from services.common.serving.protocols import Retrieval
from services.common.serving.schemas import Case, Neighbour
from services.gateway.records.review_cases import NoCase, Opened
from services.gateway.records.review_rows import Review
from services.gateway.records.reviews import ReviewStore
from services.gateway.reviews.crops import Crops

log = structlog.get_logger(__name__)

_PATIENCE_S = 5.0  # of a person who has decided; later tries have all the time
_WISHES = ("wanted", "unwanted")


class Learning:
    """Brings the memory to what the decisions say. Several gateways may do so at once."""

    def __init__(self, reviews: ReviewStore, crops: Crops, retrieval: Retrieval) -> None:
        self._reviews = reviews
        self._crops = crops
        self._retrieval = retrieval
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._sweeping: asyncio.Task[None] | None = None

    async def settle(self, review: Review) -> Review:
        """The review with what the memory did about it; as it was where the memory cannot be asked now.

        A decision and its undoing may be on their way together: they take turns, and the last wish is what counts.
        """
        if review.memory not in _WISHES:
            return review
        async with self._turns.setdefault(review.id, asyncio.Lock()):
            wish = await self._reviews.lesson(review.id)
            if wish in _WISHES:
                with bound(replace(current(), deadline=time.monotonic() + _PATIENCE_S)):
                    await self._follow(review, wish)
            else:
                review.memory = wish or "gone"
        return review

    async def _follow(self, review: Review, wish: str) -> None:
        note = None
        try:
            if wish == "wanted":
                note, outcome = await self._remember(review), "kept"
            else:
                await self._forget(review)
                outcome = "gone"
        except Problem as problem:
            if problem.status >= 500:
                log.warning("the memory follows later", review=review.id, detail=problem.detail)
                return
            outcome, note = ("refused" if wish == "wanted" else "gone"), problem.detail[:500]
        stands = await self._reviews.settled(review.id, wish, outcome, note)
        if outcome == "kept" and stands != "kept":
            await self._forget(review)  # undone elsewhere meanwhile, where there was nothing to be forgotten yet
        review.memory, review.memory_note = stands or "gone", note

    async def similar(self, opened: Opened, *, k: int) -> list[tuple[Neighbour, str | None]]:
        """The nearest past cases, each with the finding that shows it where it is the tenant's own. Raises Problem."""
        embedding, backbone = await self._embedding(opened)
        tenant, claim_id = opened.case.tenant, opened.claim.id
        found = await self._retrieval.search(embedding, k=k, tenant=tenant, backbone=backbone, exclude_claim=claim_id)
        own = [near.id for near in found[0] if near.source == "human"]
        pictured = await self._reviews.standing(tenant, own) if own else {}
        return [(near, pictured.get(near.id)) for near in found[0]]

    def start(self, every_s: float) -> None:
        self._sweeping = asyncio.create_task(self._sweep(every_s))

    async def stop(self) -> None:
        if self._sweeping is not None:
            await end(self._sweeping)

    async def _sweep(self, every_s: float) -> None:
        while True:
            try:
                for review in await self._reviews.unsettled():
                    if (await self.settle(review)).memory in _WISHES:
                        break  # the memory is away; the others would only wait for it too
            except (SQLAlchemyError, OSError) as error:
                log.warning("decisions wait for the records", error=type(error).__name__)
            await asyncio.sleep(every_s)

    async def _remember(self, review: Review) -> str | None:
        try:
            opened = await self._reviews.open(review.tenant, review.subject_id)
        except NoCase:
            raise NotFound("The claim was erased meanwhile") from None
        part = review.after.get("part")
        case = Case(
            id=review.id,
            label=review.label or "",
            claim_id=review.claim_id,
            size=opened.damage.document["size"],
            part=part["name"] if part else None,
            reviewer=review.reviewer or review.key_id,
        )
        embedding, backbone = await self._embedding(opened)
        kept = await self._retrieval.add(case, embedding[0], tenant=review.tenant, backbone=backbone)
        return None if kept.outcome == "kept" else "The memory holds the same crop with the same label already."

    async def _forget(self, review: Review) -> None:
        with suppress(NotFound):  # it was refused, or its adding never arrived
            await self._retrieval.retract(review.id, tenant=review.tenant, reviewer=review.undone_by)

    async def _embedding(self, opened: Opened) -> tuple[NDArray[np.float32], str]:
        finding = opened.damage
        return await self._crops.embedding(finding.id, opened.photo.id, finding.document["box"])
