"""A reviewer's desk: take a case, decide it, take a decision back. Whoever waits for the claim is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.common.serving.errors import NotFinished, NotFound, ReviewChanged, ReviewHeld
from services.gateway import present, schemas
from services.gateway.assessment.route import summarise
from services.gateway.callers import Caller
from services.gateway.records import models
from services.gateway.records.clock import to_datetime
from services.gateway.records.review_cases import Changed, Held, NoCase, Opened
from services.gateway.records.review_rows import Review
from services.gateway.records.reviews import Decision
from services.gateway.reviews import drawing, verdicts
from services.gateway.reviews.schemas import Drawn, Verdict
from services.gateway.runtime import Runtime


def holder(caller: Caller, reviewer: str | None) -> str:
    """How others are told who it is."""
    return reviewer or caller.key_id or "somebody"


async def take_next(runtime: Runtime, caller: Caller, reviewer: str | None) -> Opened | None:
    seconds = runtime.settings.review_lease_seconds
    return await runtime.reviews.take_next(caller.tenant, holder(caller, reviewer), seconds=seconds)


async def take(runtime: Runtime, caller: Caller, case_id: str, reviewer: str | None, lease: str | None) -> Opened:
    seconds = runtime.settings.review_lease_seconds
    async with _refusals():
        return await runtime.reviews.take(caller.tenant, case_id, holder(caller, reviewer), lease, seconds=seconds)


async def release(runtime: Runtime, caller: Caller, case_id: str, lease: str, *, skip: bool = False) -> None:
    async with _refusals():
        await runtime.reviews.release(caller.tenant, case_id, lease, skip=skip)


async def opened(runtime: Runtime, caller: Caller, case_id: str) -> tuple[Opened, Review | None]:
    """The case and the decision that stands."""
    async with _refusals():
        case = await runtime.reviews.open(caller.tenant, case_id)
    decisions = await runtime.reviews.history(caller.tenant, case_id) if case.case.review_id else ()
    return case, next((review for review in decisions if review.id == case.case.review_id), None)


async def opened_finding(runtime: Runtime, caller: Caller, case_id: str) -> Opened:
    """A case about a finding: a claim as a whole has no crop."""
    case, _ = await opened(runtime, caller, case_id)
    if case.finding is None:
        raise NotFound("The case is about the whole claim, which has no crop")
    return case


async def decide(
    runtime: Runtime, caller: Caller, case_id: str, verdict: Verdict, version: int
) -> tuple[Opened, Review]:
    """Write the verdict and make the claim's summary again; the memory learns it now or once it can."""
    async with _refusals():
        case = await runtime.reviews.open(caller.tenant, case_id)
        label = None
        if case.finding is None:
            before, after = verdicts.about_claim(case.claim.summary or {}, verdict)
        else:
            finding = schemas.Finding.model_validate(case.finding.document)
            vocabulary = (await runtime.clients.classifier.info()).vocabulary
            before, after = verdicts.shown(finding), verdicts.decided(finding, verdict, vocabulary)
            if verdict.action != "reject":
                label = verdicts.lesson(after["damage"], finding.opinion, vocabulary)
        decision = Decision(verdict.action, before, after, label, caller.key_id, verdict.reviewer)
        case, review = await runtime.reviews.decide(
            caller.tenant, case_id, decision, version=version, lease=verdict.lease, summarise=_summary
        )
    await runtime.signals.publish(case.claim.id)
    return case, await runtime.learning.settle(review)


async def add(runtime: Runtime, caller: Caller, claim_id: str, photo_id: str, wish: Drawn) -> tuple[Opened, Review]:
    """A damage that the models have missed. It counts at once, and the memory learns it as it does a correction."""
    claim = await runtime.claims.load(claim_id)
    photo = next((each for each in claim.photos if each.id == photo_id), None) if claim else None
    if claim is None or photo is None:
        raise NotFound("The claim has no such photo")
    if claim.status != "succeeded" or photo.status != "succeeded":
        raise NotFinished("Damages are drawn on photos that were assessed, of claims that succeeded")
    finding, label = await drawing.finding(runtime, caller.tenant, claim_id, photo_id, wish)
    decision = Decision("add", {}, verdicts.shown(finding), label, caller.key_id, wish.reviewer)
    async with _refusals():
        case, review = await runtime.reviews.add(caller.tenant, photo_id, finding, decision, summarise=_summary)
    await runtime.signals.publish(case.claim.id)
    return case, await runtime.learning.settle(review)


async def undo(
    runtime: Runtime, caller: Caller, case_id: str, reviewer: str | None, version: int
) -> tuple[Opened, Review]:
    """Take the standing decision back; the memory forgets it, and the caller holds the case again."""
    seconds = runtime.settings.review_lease_seconds
    async with _refusals():
        case, review = await runtime.reviews.undo(
            caller.tenant,
            case_id,
            holder(caller, reviewer),
            version=version,
            seconds=seconds,
            summarise=_summary,
        )
    await runtime.signals.publish(case.claim.id)
    return case, await runtime.learning.settle(review)


def _summary(claim: models.Claim, standing: models.Json | None) -> schemas.Summary:
    review = None
    if standing is not None:
        review = schemas.ClaimReviewed.model_validate(
            {name: standing[name] for name in schemas.ClaimReviewed.model_fields}
        )
    return summarise([present.photo(photo) for photo in claim.photos], review)


@asynccontextmanager
async def _refusals() -> AsyncIterator[None]:
    """The records' refusals in the words of a problem document."""
    try:
        yield
    except NoCase:
        raise NotFound("No such finding or claim is or was in the review queue") from None
    except Changed:
        raise ReviewChanged(
            "Somebody decided this, or took a decision back, since you opened it. Read it again."
        ) from None
    except Held as error:
        until = to_datetime(error.case.held_until or 0).isoformat().replace("+00:00", "Z")
        raise ReviewHeld(
            f"{error.case.holder} has this finding open. Take another one, or wait until they are done.",
            held_by=error.case.holder,
            held_until=until,
        ) from None
