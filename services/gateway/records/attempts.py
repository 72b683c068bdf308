"""Work on claims. A claim's status goes one way: queued -> processing -> succeeded | failed | canceled | expired.

Every attempt to work on a claim gets a number. Only the latest may write: a worker that was thought dead, and whose
claim another took over, is refused (StaleAttempt) instead of overwriting newer results.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CursorResult, bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import selectinload

from services.common.jobs.turns import Share
from services.gateway import schemas
from services.gateway.records import outbox
from services.gateway.records.clock import now_ms
from services.gateway.records.database import Database
from services.gateway.records.finding_rows import finding_rows
from services.gateway.records.models import OPEN, Claim, Finding, Json, Photo
from services.gateway.records.new_photos import ended
from services.gateway.records.reviews import enqueue
from services.gateway.records.whole import whole

# Written down once: putting them together takes longer than asking them.
_new_findings = insert(Finding)
_begun = (
    update(Claim)
    .where(Claim.id == bindparam("claim"), Claim.status.in_(OPEN))
    .values(
        status="processing",
        attempt=Claim.attempt + 1,
        started_at=func.coalesce(Claim.started_at, bindparam("now")),
    )
    .returning(Claim.attempt)
)
_held = update(Claim).where(
    Claim.id == bindparam("claim"), Claim.attempt == bindparam("by"), Claim.status == "processing"
)
_looked_at = update(Photo).where(
    Photo.id == bindparam("photo"), Photo.claim_id == bindparam("claim"), Photo.status == "queued"
)
_photos_of = (
    select(Photo)
    .where(Photo.claim_id == bindparam("claim"))
    .options(selectinload(Photo.findings))
    .order_by(Photo.position)
)
_ended = update(Claim).where(Claim.id == bindparam("claim"))


class StaleAttempt(Exception):
    """Another worker took this claim over, or it is finished: nothing was written."""


class MorePhotos(Exception):
    """The claim has got more photos meanwhile: it is not finished yet, and nothing was written."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one photo came to: findings and view, or an error."""

    width: int | None = None
    height: int | None = None
    findings: tuple[schemas.Finding, ...] = ()
    view: Json | None = None
    reasons: tuple[schemas.Reason, ...] = ()
    timings_ms: dict[str, float] | None = None
    error: schemas.Error | None = None


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What a claim's photos come to: a summary where it succeeded (`partial`: without some), or why it failed.

    `doubtful`: a person should look at the claim for a reason that no finding stands for.
    """

    photos: Sequence[schemas.Photo]
    summary: schemas.Summary | None = None
    partial: bool = False
    doubtful: bool = False
    error: schemas.Error | None = None


class Attempts:
    """Attempts at claims, and what they write; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._writing = database.writing

    @whole
    async def begin(self, claim_id: str) -> int:
        """Start an attempt and return its number; all earlier ones can no longer write."""
        async with self._writing.begin() as connection:
            changed = await connection.execute(_begun, {"claim": claim_id, "now": now_ms()})
            attempt = changed.scalar_one_or_none()
        if attempt is None:
            raise StaleAttempt(claim_id)
        return attempt

    @whole
    async def write_photo(self, claim_id: str, attempt: int, photo_id: str, outcome: Outcome) -> None:
        """Write one photo's outcome; a photo is written once."""
        async with self._fenced(claim_id, attempt, {"attempt": attempt}) as connection:
            await _write_photo(connection, claim_id, photo_id, outcome)

    @whole
    async def finish(
        self,
        claim_id: str,
        attempt: int,
        conclude: Callable[[Sequence[Photo]], Conclusion],
        last: Mapping[str, Outcome] | None = None,
    ) -> Conclusion:
        """Finish the claim with what `conclude` makes of its photos. Exactly one attempt can.

        What is not written yet of the photos is `last`. Raises MorePhotos where the claim has got photos that nobody
        has looked at yet; then nothing is written.
        """
        async with self._fenced(claim_id, attempt, {"completed_at": now_ms()}) as connection:
            # The claim's row is ours: no photo comes now.
            for photo_id, outcome in (last or {}).items():
                await _write_photo(connection, claim_id, photo_id, outcome)
            async with AsyncSession(connection) as session:
                photos = (await session.execute(_photos_of, {"claim": claim_id})).scalars().all()
                if any(photo.status == "queued" for photo in photos):
                    raise MorePhotos(claim_id)
                ended = conclude(photos)
            changes = {
                "status": "failed" if ended.error else "succeeded",
                "partial": ended.partial,
                "route": ended.summary.route if ended.summary else None,
                "summary": ended.summary.model_dump() if ended.summary else None,
                "error": ended.error.model_dump() if ended.error else None,
            }
            await connection.execute(_ended, {"claim": claim_id, **changes})
            await enqueue(connection, claim_id, doubtful=ended.doubtful)
            await outbox.announce(connection, claim_id)
        return ended

    @whole
    async def give_up(self, claim_id: str, error: schemas.Error) -> bool:
        """Fail a claim and whatever is open of it; False when it was finished already.

        The attempt is counted up, so that a worker that still runs cannot write any more.
        """
        async with self._writing.begin() as connection:
            done: CursorResult[Any] = await connection.execute(
                update(Claim)
                .where(Claim.id == claim_id, Claim.status.in_(OPEN))
                .values(status="failed", attempt=Claim.attempt + 1, completed_at=now_ms(), error=error.model_dump())
            )
            if done.rowcount == 1:
                await outbox.announce(connection, claim_id)
            return done.rowcount == 1

    @whole
    async def reopen(self, claim_id: str) -> Share | None:
        """Queue a failed claim once more, with those of its photos whose bytes are kept; None where it is not failed.

        The only way back from a final status, and only for whoever runs the service.
        """
        async with self._writing.begin() as connection:
            changed = await connection.execute(
                update(Claim)
                .where(Claim.id == claim_id, Claim.status == "failed")
                .values(status="queued", attempt=Claim.attempt + 1, completed_at=None, expires_at=None, error=None)
                .returning(Claim.tenant, Claim.lane)
            )
            claim = changed.one_or_none()
            if claim is None:
                return None
            photos: CursorResult[Any] = await connection.execute(
                update(Photo)
                .where(Photo.claim_id == claim_id, Photo.status == "failed", Photo.sha256.is_not(None))
                .values(status="queued", error=None)
            )
            return Share(claim.tenant, photos.rowcount, batch=claim.lane == "batch")

    @asynccontextmanager
    async def _fenced(self, claim_id: str, attempt: int, changes: Json) -> AsyncIterator[AsyncConnection]:
        """A transaction that begins by proving (and, by the row's lock, keeping) that `attempt` is the latest."""
        async with self._writing.begin() as connection:
            held: CursorResult[Any] = await connection.execute(_held, {"claim": claim_id, "by": attempt, **changes})
            if held.rowcount != 1:
                raise StaleAttempt(claim_id)
            yield connection


async def _write_photo(connection: AsyncConnection, claim_id: str, photo_id: str, outcome: Outcome) -> None:
    done: CursorResult[Any] = await connection.execute(
        _looked_at,
        {
            "photo": photo_id,
            "claim": claim_id,
            "status": ended(outcome.error) if outcome.error else "succeeded",
            "width": outcome.width,
            "height": outcome.height,
            "view": outcome.view or {},
            "reasons": [reason.model_dump() for reason in outcome.reasons],
            "timings_ms": outcome.timings_ms or {},
            "error": outcome.error.model_dump() if outcome.error else None,
        },
    )
    if done.rowcount != 1:
        raise StaleAttempt(claim_id)
    if outcome.findings:
        await connection.execute(_new_findings, finding_rows(claim_id, photo_id, outcome.findings))
