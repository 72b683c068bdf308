"""Working on one claim: begin an attempt, assess every photo that is not done yet, finish once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from services.common.jobs.worker import GiveWay, Later
from services.common.serving import tracing
from services.common.serving.context import RequestContext, bound
from services.common.serving.errors import NotFound, Problem
from services.common.vision.photo import Photo, PhotoError
from services.gateway import deadlines, failures, measures, present, schemas
from services.gateway.assessment.clients import Clients
from services.gateway.assessment.pipeline import assess, opened
from services.gateway.assessment.route import summarise, unplaced
from services.gateway.records import models
from services.gateway.records.attempts import Conclusion, MorePhotos, Outcome, StaleAttempt
from services.gateway.records.clock import now_ms
from services.gateway.reuse import basis, reused
from services.gateway.runtime import Runtime

log = structlog.get_logger(__name__)

_PHOTOS_AT_ONCE = 2  # one is decoded while another is at a model; more would only wait there
_LONGEST_PAUSE_S = 30


async def _alone() -> bool:
    return False


async def work(runtime: Runtime, claim_id: str, turn_ended: Callable[[], Awaitable[bool]] = _alone) -> bool:
    """Bring the claim as far as possible; True where this finished it.

    Safe to run any number of times, by any number of workers.

    `turn_ended` is asked after each photo. Raises GiveWay where another claim comes before the rest of this one, and
    Later while a model service is out of order and the claim may still wait for it.
    """
    with bound(RequestContext(claim_id)):
        try:
            attempt = await runtime.attempts.begin(claim_id)
            await runtime.signals.publish(claim_id)
            await _attempt(runtime, claim_id, attempt, turn_ended)
            return True
        except StaleAttempt:
            log.info("claim is finished or in other hands")
            return False
        finally:
            await runtime.signals.publish(claim_id, ended=True)


async def give_up(runtime: Runtime, claim_id: str, why: str) -> None:
    """End a claim that no worker will try again, with what is done of it; `why` is for the log only."""
    try:
        attempt = await runtime.attempts.begin(claim_id)  # from here on a worker that still runs cannot write
        log.error("claim given up", claim=claim_id, why=why)
        await _end(runtime, claim_id, attempt, failures.exhausted())
    except StaleAttempt:
        return
    except Exception:  # what makes the claim fail may be what is done of it: then even that is given up
        log.exception("what is done of the claim cannot be used", claim=claim_id)
        await runtime.attempts.give_up(claim_id, failures.exhausted())
    await runtime.signals.publish(claim_id, ended=True)


async def _attempt(runtime: Runtime, claim_id: str, attempt: int, turn_ended: Callable[[], Awaitable[bool]]) -> None:
    claim = await _load(runtime, claim_id)
    with bound(deadlines.context(claim)):
        await _assess(runtime, claim, attempt, turn_ended)


async def _assess(
    runtime: Runtime, claim: models.Claim, attempt: int, turn_ended: Callable[[], Awaitable[bool]]
) -> None:
    await runtime.rules.follow()
    clients = runtime.clients.pinned()
    hands = asyncio.Semaphore(_PHOTOS_AT_ONCE)
    over = unfinished = False
    waiting = [photo for photo in claim.photos if photo.status == "queued"]
    left = len(waiting)
    last: dict[str, Outcome] = {}  # is written with the claim's end: one transaction less, and nobody asks after it

    async def one(photo: models.Photo) -> None:
        nonlocal over, unfinished, left
        async with hands:
            if over:
                unfinished = True
                return
            with tracing.span("photo", {"claimsight.photo": photo.id}):
                outcome = await _outcome(runtime, clients, claim, photo)
                left -= 1
                if not left:
                    last[photo.id] = outcome
                    return
                with tracing.span("write"):
                    await runtime.attempts.write_photo(claim.id, attempt, photo.id, outcome)
            await runtime.signals.publish(claim.id)
            over = await turn_ended() or over

    # Every photo gets its chance before the first failure counts: what succeeded is kept for the next attempt.
    ended = await asyncio.gather(*(one(photo) for photo in waiting), return_exceptions=True)
    problems = [error for error in ended if isinstance(error, Problem)]
    for error in ended:
        if isinstance(error, BaseException) and not isinstance(error, Problem):
            raise error
    if problems:
        await _put_off(runtime, claim, attempt, problems[0])
    elif unfinished:
        raise GiveWay
    else:
        try:
            await _finish(runtime, claim.id, attempt, last)
        except MorePhotos:
            for photo_id, outcome in last.items():
                await runtime.attempts.write_photo(claim.id, attempt, photo_id, outcome)
            await runtime.signals.publish(claim.id)
            await _attempt(runtime, claim.id, attempt, turn_ended)


async def _outcome(runtime: Runtime, clients: Clients, claim: models.Claim, photo: models.Photo) -> Outcome:
    """One photo's findings or its own error. Raises Problem where a service cannot answer now."""
    opening: Awaitable[Photo] | None = runtime.ahead.take(photo.id)
    if known := await reused(runtime, clients, claim, photo):
        return known
    if opening is None:
        try:
            opening = opened(await runtime.photos.get_photo(photo.id), runtime.policy)
        except LookupError:
            return Outcome(error=failures.embedded(NotFound("The photo's bytes are no longer kept; send it again")))
    try:
        found = await assess(
            opening, clients, runtime.policy, tenant=claim.tenant, claim_id=claim.id, own=runtime.registry
        )
    except PhotoError as error:
        return Outcome(error=failures.embedded(failures.photo_problem(error)))
    except Problem as problem:
        if problem.status >= 500:
            raise
        return Outcome(error=failures.embedded(problem))  # the service refused this very photo; others may do
    view = {
        "vehicle": found.vehicle,
        "parts": [part.model_dump() for part in found.parts],
        "lookalikes": [fake.model_dump() for fake in found.lookalikes],
        "models": {name: ref.model_dump() for name, ref in found.models.items()},
        "basis": basis(runtime.policy),
    }
    return Outcome(found.width, found.height, tuple(found.findings), view, tuple(found.reasons), found.timings_ms)


async def _put_off(runtime: Runtime, claim: models.Claim, attempt: int, problem: Problem) -> None:
    """Wait for a service that is down, longer each time, until the claim's patience ends."""
    waited_s = (now_ms() - claim.created_at) / 1000
    if waited_s > runtime.settings.claim_patience_seconds:
        await _end(runtime, claim.id, attempt, failures.embedded(problem))
        return
    raise Later(min(2.0 ** min(attempt, 10) / 2, _LONGEST_PAUSE_S), problem.detail)


async def _end(runtime: Runtime, claim_id: str, attempt: int, error: schemas.Error) -> None:
    """Finish the claim as it is: photos that are not done fail with `error`, and what the others showed is kept."""
    for photo in (await _load(runtime, claim_id)).photos:
        if photo.status == "queued":
            await runtime.attempts.write_photo(claim_id, attempt, photo.id, Outcome(error=error))
    try:
        await _finish(runtime, claim_id, attempt)
    except MorePhotos:
        await _end(runtime, claim_id, attempt, error)


async def _finish(runtime: Runtime, claim_id: str, attempt: int, last: Mapping[str, Outcome] | None = None) -> None:
    with tracing.span("finish"):
        ended = await runtime.attempts.finish(claim_id, attempt, _conclude, last)
    outcome = "failed" if ended.error else "partial" if ended.partial else "succeeded"
    measures.claim_ended(claim_id, outcome, ended.photos)
    log.info("claim ended", claim=claim_id, outcome=outcome, attempt=attempt)


def _conclude(rows: Sequence[models.Photo]) -> Conclusion:
    """What the photos come to together: a claim succeeds where one photo did."""
    photos = [present.photo(row) for row in rows]
    failed = [photo for photo in photos if photo.status in ("failed", "rejected")]
    if len(failed) == len(photos):
        return Conclusion(photos, error=_no_photo(failed))
    return Conclusion(photos, summarise(photos), partial=bool(failed), doubtful=bool(unplaced(photos)))


def _no_photo(failed: list[schemas.Photo]) -> schemas.Error:
    """The claim's error where no photo could be assessed: the first photo's, and that the others fared no better."""
    first = failed[0].error or failures.exhausted()
    if len(failed) == 1:
        return first
    return first.model_copy(update={"detail": f"None of the {len(failed)} photos could be assessed. {first.detail}"})


async def _load(runtime: Runtime, claim_id: str) -> models.Claim:
    claim = await runtime.claims.load(claim_id)
    if claim is None:
        raise StaleAttempt(claim_id)
    return claim
