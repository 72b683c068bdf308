"""A case of the review queue: found, locked, held by somebody, and shown with everything around it.

It is held by a lease that ends by itself, and every change counts its version up.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from services.gateway import ids
from services.gateway.records.models import Claim, Finding, Photo
from services.gateway.records.review_rows import ReviewCase


class NoCase(Exception):
    """The tenant has no such case."""


class Changed(Exception):
    """The case is not as the caller has seen it: somebody decided, or undid a decision."""


class Held(Exception):
    """Somebody else has the case open; `case` says who and until when."""

    def __init__(self, case: ReviewCase) -> None:
        super().__init__(case.holder)
        self.case = case


@dataclass(frozen=True, slots=True)
class Opened:
    """A case with everything that is needed to show it."""

    case: ReviewCase
    claim: Claim  # with its photos and their findings
    photo: Photo  # the finding's, or the first one that shows something
    finding: Finding | None  # None: it is about the whole claim

    @property
    def damage(self) -> Finding:
        """Raises NoCase where it is about the whole claim."""
        if self.finding is None:
            raise NoCase(self.case.subject_id)
        return self.finding


async def find(session: AsyncSession, tenant: str, subject_id: str, *, lock: bool = False) -> ReviewCase:
    """Raises NoCase."""
    query = select(ReviewCase).where(ReviewCase.subject_id == subject_id, ReviewCase.tenant == tenant)
    case = (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()
    if case is None:
        raise NoCase(subject_id)
    return case


async def find_alone(session: AsyncSession, tenant: str, subject_id: str) -> ReviewCase:
    """The case, while nobody else decides on the same claim: each decision sees all others in the summary it makes.

    The claim is locked before anything of it, as when it is erased, so that no two wait for each other; and not its
    key, which every row that refers to it shares. Raises NoCase.
    """
    claim = select(Claim.id).join(ReviewCase, ReviewCase.claim_id == Claim.id)
    claim = claim.where(ReviewCase.subject_id == subject_id, ReviewCase.tenant == tenant)
    await session.execute(claim.with_for_update(key_share=True, of=Claim))
    return await find(session, tenant, subject_id, lock=True)


def refuse_if_changed(case: ReviewCase, version: int, state: str) -> None:
    """Raises Changed."""
    if case.version != version or case.state != state:
        raise Changed(case.subject_id)


def refuse_if_held(case: ReviewCase, lease: str | None, now: int) -> None:
    """Raises Held where somebody else's lease has not ended."""
    if case.lease is not None and case.lease != lease and (case.held_until or 0) > now:
        raise Held(case)


def hold(case: ReviewCase, holder: str, now: int, seconds: float) -> None:
    """Give `holder` a new lease."""
    case.lease, case.holder, case.held_until = ids.new("lse"), holder, now + round(seconds * 1000)
    case.version += 1


def let_go(case: ReviewCase) -> None:
    """Nobody holds it from here on."""
    case.lease = case.holder = case.held_until = None
    case.version += 1


async def written(session: AsyncSession, case: ReviewCase) -> Opened:
    """The case as it is with all that was changed so far."""
    await session.flush()
    return await opened(session, case)


async def opened(session: AsyncSession, case: ReviewCase) -> Opened:
    """Raises NoCase where its finding is gone."""
    claim = await whole_claim(session, case.claim_id)
    if case.about_claim:
        seen = next((photo for photo in claim.photos if photo.status == "succeeded"), claim.photos[0])
        return Opened(case, claim, seen, None)
    for photo in claim.photos:
        for finding in photo.findings:
            if finding.id == case.subject_id:
                return Opened(case, claim, photo, finding)
    raise NoCase(case.subject_id)


async def whole_claim(session: AsyncSession, claim_id: str) -> Claim:
    """With its photos and their findings."""
    query = select(Claim).where(Claim.id == claim_id)
    return (await session.execute(query.options(selectinload(Claim.photos).selectinload(Photo.findings)))).scalar_one()
