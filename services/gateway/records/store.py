"""Claims as they are accepted, read, listed, and found unfinished; what becomes of one by work is in `attempts`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from sqlalchemy import bindparam, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from services.common.jobs.turns import Share
from services.gateway.records import usage
from services.gateway.records.clock import now_ms
from services.gateway.records.database import Database
from services.gateway.records.models import OPEN, Claim, Json, Photo
from services.gateway.records.new_photos import NewPhoto, photo_rows
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
_new_claim, _new_photos = insert(Claim), insert(Photo)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An accepted claim that is not final, and what the queue must know about it."""

    id: str
    share: Share


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
