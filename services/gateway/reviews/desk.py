"""A reviewer's desk: take a case, decide it, take a decision back. Whoever waits for the claim is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.common.serving.errors import NotFound, ReviewChanged, ReviewHeld
from services.gateway import present, schemas
from services.gateway.assessment.route import summarise
from services.gateway.callers import Caller
from services.gateway.records import models
from services.gateway.records.clock import to_datetime
from services.gateway.records.review_rows import Review
from services.gateway.records.reviews import Changed, Decision, Held, NoCase, Opened
from services.gateway.reviews import verdicts
from services.gateway.reviews.schemas import Verdict
from services.gateway.runtime import Runtime


def holder(caller: Caller, reviewer: str | None) -> str:
    """How others are told who it is."""
    return reviewer or caller.key_id or "somebody"


async def take_next(runtime: Runtime, caller: Caller, reviewer: str | None) -> Opened | None:
    seconds = runtime.settings.review_lease_seconds
    return await runtime.reviews.take_next(caller.tenant, holder(caller, reviewer), seconds=seconds)


async def take(runtime: Runtime, caller: Caller, finding_id: str, reviewer: str | None, lease: str | None) -> Opened:
    seconds = runtime.settings.review_lease_seconds
    async with _refusals():
        return await runtime.reviews.take(caller.tenant, finding_id, holder(caller, reviewer), lease, seconds=seconds)


async def release(runtime: Runtime, caller: Caller, finding_id: str, lease: str, *, skip: bool = False) -> None:
    async with _refusals():
        await runtime.reviews.release(caller.tenant, finding_id, lease, skip=skip)


async def opened(runtime: Runtime, caller: Caller, finding_id: str) -> tuple[Opened, Review | None]:
    """The case and the decision that stands."""
    async with _refusals():
        case = await runtime.reviews.open(caller.tenant, finding_id)
    decisions = await runtime.reviews.history(caller.tenant, finding_id) if case.case.review_id else ()
    return case, next((review for review in decisions if review.id == case.case.review_id), None)


async def decide(
    runtime: Runtime, caller: Caller, finding_id: str, verdict: Verdict, version: int
) -> tuple[Opened, Review]:
    """Write the verdict and make the claim's summary again; the memory learns it now or once it can."""
    async with _refusals():
        case = await runtime.reviews.open(caller.tenant, finding_id)
        finding = schemas.Finding.model_validate(case.finding.document)
        vocabulary = (await runtime.clients.classifier.info()).vocabulary
        after = verdicts.decided(finding, verdict, vocabulary)
        label = None
        if verdict.action != "reject":
            label = verdicts.lesson(after["damage"], finding.opinion, vocabulary)
        decision = Decision(verdict.action, verdicts.shown(finding), after, label, caller.key_id, verdict.reviewer)
        case, review = await runtime.reviews.decide(
            caller.tenant, finding_id, decision, version=version, lease=verdict.lease, summarise=_summary
        )
    await runtime.signals.publish(case.claim.id)
    return case, await runtime.learning.settle(review)


async def undo(
    runtime: Runtime, caller: Caller, finding_id: str, reviewer: str | None, version: int
) -> tuple[Opened, Review]:
    """Take the standing decision back; the memory forgets it, and the caller holds the case again."""
    seconds = runtime.settings.review_lease_seconds
    async with _refusals():
        case, review = await runtime.reviews.undo(
            caller.tenant,
            finding_id,
            holder(caller, reviewer),
            version=version,
            seconds=seconds,
            summarise=_summary,
        )
    await runtime.signals.publish(case.claim.id)
    return case, await runtime.learning.settle(review)


def _summary(claim: models.Claim) -> schemas.Summary:
    return summarise([present.photo(photo) for photo in claim.photos])


@asynccontextmanager
async def _refusals() -> AsyncIterator[None]:
    """The records' refusals in the words of a problem document."""
    try:
        yield
    except NoCase:
        raise NotFound("No such finding is or was in the review queue") from None
    except Changed:
        raise ReviewChanged(
            "Somebody decided this finding, or took a decision back, since you opened it. Read it again."
        ) from None
    except Held as error:
        until = to_datetime(error.case.held_until or 0).isoformat().replace("+00:00", "Z")
        raise ReviewHeld(
            f"{error.case.holder} has this finding open. Take another one, or wait until they are done.",
            held_by=error.case.holder,
            held_until=until,
        ) from None
