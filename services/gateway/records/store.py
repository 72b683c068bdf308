"""The records' verbs. A claim's status goes one way: queued -> processing -> succeeded | failed | canceled | expired.

Every attempt to work on a claim gets a number. Only the latest may write: a worker that was thought dead, and whose
claim another took over, is refused (StaleAttempt) instead of overwriting newer results.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from sqlalchemy import CursorResult, bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import selectinload

from services.common.jobs.turns import Share
from services.common.serving.errors import Generated
from services.common.serving.problems import TYPE_PREFIX
from services.gateway import schemas
from services.gateway.records import outbox, usage
from services.gateway.records.clock import now_ms
from services.gateway.records.database import Database
from services.gateway.records.finding_rows import finding_rows
from services.gateway.records.models import OPEN, Claim, Finding, Json, Photo
from services.gateway.records.reviews import enqueue
from services.gateway.records.usage import UNBOUNDED, Bounds, Used
from services.gateway.records.whole import whole

# Written down once: putting them together takes longer than asking them.
_any = select(Claim.id).limit(1)
_LOADED = (
    select(Claim)
    .where(Claim.id == bindparam("claim_id"))
    .options(selectinload(Claim.photos).selectinload(Photo.findings))
)
_waiting_photos = select(func.count()).where(Photo.claim_id == Claim.id, Photo.status == "queued").scalar_subquery()
_unfinished = (
    select(Claim.id, Claim.tenant, Claim.lane, _waiting_photos)
    .where(Claim.status.in_(OPEN), Claim.created_at < bindparam("before"))
    .order_by(Claim.lane.desc(), Claim.id)
    .limit(bindparam("limit"))
)
_ACCEPTING = 2  # claims of one tenant at once: one that is written, and one that begins the moment it is
_new_claim, _new_photos, _new_findings = insert(Claim), insert(Photo), insert(Finding)
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
class NewPhoto:
    """A photo as it was received; with `error` it is kept as failed and never looked at."""

    id: str
    sha256: str | None
    bytes: int
    error: schemas.Error | None = None
    angle: schemas.View | None = None


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An accepted claim that is not final, and what the queue must know about it."""

    id: str
    share: Share


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


class ClaimStore:
    """Claims, photos and findings; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._glance = database.glance
        self._reading = database.reading
        self._writing = database.writing
        self._lines: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def ping(self) -> None:
        """Raises where the database does not answer."""
        await self._glance(_any)

    @whole
    async def accept(
        self,
        claim_id: str,
        photos: Sequence[NewPhoto],
        *,
        tenant: str,
        external_ref: str | None,
        metadata: Json,
        vehicle: Json | None = None,
        bounds: Bounds = UNBOUNDED,
        batch: bool = False,
        deadline_s: float | None = None,
    ) -> Claim:
        """Accept a claim, and answer it as it now stands. It will be finished whatever becomes of the queue.

        One of a `batch` waits behind all interactive ones; one that is not concluded within `deadline_s` expires.
        Raises OverQuota where the tenant would have more than its `bounds`, and IntegrityError where there is such a
        claim already.

        A tenant's claims wait in its own line. In the records they would wait for each other all the same, for the row
        that counts its usage, but there they would stand before other tenants' claims too.
        """
        now = now_ms()
        claim = {
            "id": claim_id,
            "tenant": tenant,
            "lane": "batch" if batch else "interactive",
            "status": "queued",
            "attempt": 0,
            "version": 0,
            "external_ref": external_ref,
            "vehicle": vehicle,
            "created_at": now,
            "expires_at": None if deadline_s is None else now + round(deadline_s * 1000),
            "partial": False,
        }
        rows = photo_rows(claim_id, photos)
        line = self._lines.setdefault(tenant, asyncio.Semaphore(_ACCEPTING))
        async with line, self._writing.begin() as connection:
            used = Used(1, len(photos), sum(photo.bytes for photo in photos))
            await usage.count(connection, tenant, used, bounds)
            await connection.execute(_new_claim, [claim | {"metadata": metadata}])
            await connection.execute(_new_photos, rows)
        return Claim(**claim, annotations=metadata, photos=[Photo(**row, findings=[]) for row in rows])

    @whole
    async def load(self, claim_id: str) -> Claim | None:
        """The claim with photos and findings, or None."""
        async with AsyncSession(self._reading) as session:
            return (await session.execute(_LOADED, {"claim_id": claim_id})).scalar_one_or_none()

    @whole
    async def list(
        self,
        tenant: str,
        *,
        limit: int,
        before: str | None = None,
        status: str | None = None,
        external_ref: str | None = None,
        created_after: int | None = None,
    ) -> Sequence[Claim]:
        """The tenant's claims without photos, newest first, those older than `before`."""
        query = select(Claim).where(Claim.tenant == tenant).order_by(Claim.id.desc()).limit(limit)
        if before is not None:
            query = query.where(Claim.id < before)
        if status is not None:
            query = query.where(Claim.status == status)
        if external_ref is not None:
            query = query.where(Claim.external_ref == external_ref)
        if created_after is not None:
            query = query.where(Claim.created_at > created_after)
        async with AsyncSession(self._reading) as session:
            return (await session.execute(query)).scalars().all()

    async def unfinished(self, *, older_than_ms: int, limit: int = 1000) -> Sequence[Unfinished]:
        """Accepted claims that are not final, interactive ones first and then the oldest."""
        rows = await self._glance(_unfinished, before=now_ms() - older_than_ms, limit=limit)
        return [Unfinished(row[0], Share(row[1], row[3], batch=row[2] == "batch")) for row in rows]

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


def photo_rows(claim_id: str, photos: Sequence[NewPhoto], *, first: int = 0) -> list[Json]:
    """New photos as rows, at the positions from `first` on."""
    return [
        {
            "id": photo.id,
            "claim_id": claim_id,
            "position": position,
            "status": ended(photo.error) if photo.error else "queued",
            "sha256": photo.sha256,
            "bytes": photo.bytes,
            "angle": photo.angle,
            "view": {},
            "reasons": [],
            "timings_ms": {},
            "error": photo.error.model_dump() if photo.error else None,
        }
        for position, photo in enumerate(photos, first)
    ]


def ended(error: schemas.Error) -> str:
    """The status of a photo with this error: our own pictures are rejected, everything else has failed."""
    return "rejected" if error.type == TYPE_PREFIX + Generated.slug else "failed"
