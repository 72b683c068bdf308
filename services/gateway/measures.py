"""What the gateway and its worker count: claims and photos that ended, and how long the oldest one waits.

The age of the oldest claim is what capacity is scaled by: it grows when the work does not keep up, whatever the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError
from ulid import ULID

from services.common.jobs.queue import JobQueue
from services.common.serving import telemetry
from services.common.serving.errors import Problem
from services.gateway import schemas
from services.gateway.records.clock import now_ms
from services.gateway.records.store import ClaimStore

_EVERY_S = 5


async def keep(claims: ClaimStore, queue: JobQueue) -> None:
    """Measure what waits, until cancelled. While the records are away the last answer stands, and readiness tells."""
    while True:
        with suppress(Problem, SQLAlchemyError, OSError):
            await measure(claims, queue)
        await asyncio.sleep(_EVERY_S)


async def measure(claims: ClaimStore, queue: JobQueue) -> None:
    """The oldest unfinished claim's age, interactive ones first: a batch may wait as long as nobody does."""
    oldest = await claims.unfinished(older_than_ms=0, limit=1)
    ages = {"interactive": 0.0, "batch": 0.0}
    for claim in oldest:
        ages["batch" if claim.share.batch else "interactive"] = max(0.0, now_ms() / 1000 - _created_s(claim.id))
    for lane, age in ages.items():
        telemetry.QUEUE_OLDEST_SECONDS.labels(lane).set(age)
    telemetry.UNFINISHED_CLAIMS.set(await queue.depth())


def claim_ended(claim_id: str, outcome: str, photos: Sequence[schemas.Photo]) -> None:
    """`outcome`: succeeded, partial, failed, expired; a photo's is succeeded or the last part of its problem's type."""
    telemetry.CLAIMS.labels(outcome).inc()
    telemetry.CLAIM_SECONDS.observe(max(0.0, now_ms() / 1000 - _created_s(claim_id)))
    for photo in photos:
        telemetry.PHOTOS.labels(photo.error.type.rpartition(":")[2] if photo.error else "succeeded").inc()


def _created_s(claim_id: str) -> float:
    """A claim's id is a ULID: it says when it was made."""
    return float(ULID.from_str(claim_id.partition("_")[2]).timestamp)
