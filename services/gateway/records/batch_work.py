"""Batches as they are worked off: which lines are next, what became of them, what is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import and_, bindparam, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from services.gateway import ids
from services.gateway.records.batch_rows import Batch, File, Line
from services.gateway.records.clock import now_ms
from services.gateway.records.database import Database
from services.gateway.records.models import Claim, Finding, Json, Photo
from services.gateway.records.whole import whole

_FORGOTTEN_MS = 60_000  # a line that was taken so long ago and is no claim yet: whoever took it is dead

_running = select(Batch.id, Batch.tenant).where(Batch.status == "processing").order_by(Batch.id)
_forgotten = select(Batch.id).where(Batch.status == "uploading", Batch.created_at < bindparam("before"))


@dataclass(frozen=True, slots=True)
class Running:
    """A started batch that is not final."""

    id: str
    tenant: str


class BatchWork:
    """Every method is one transaction; any number of processes may work at once."""

    def __init__(self, database: Database) -> None:
        self._glance = database.glance
        self._reading = database.reading
        self._writing = database.writing

    async def running(self) -> Sequence[Running]:
        """The oldest first."""
        return [Running(*row) for row in await self._glance(_running)]

    async def forgotten(self, *, older_than_ms: int) -> Sequence[str]:
        """Batches that nobody has started for so long."""
        return [row.id for row in await self._glance(_forgotten, before=now_ms() - older_than_ms)]

    @whole
    async def open_claims(self, tenant: str) -> int:
        """How many claims of the tenant's batches are under way."""
        query = select(func.count()).where(
            Claim.tenant == tenant, Claim.lane == "batch", Claim.status.in_(("queued", "processing"))
        )
        async with self._reading.connect() as connection:
            return int((await connection.execute(query)).scalar_one())

    @whole
    async def take(self, batch_id: str, limit: int) -> Sequence[Line]:
        """The next lines, each with its claim's id; no other process gets them for a minute."""
        forgotten = and_(Line.state == "taken", Line.taken_at < now_ms() - _FORGOTTEN_MS)
        query = select(Line).where(Line.batch_id == batch_id, or_(Line.state == "waiting", forgotten))
        query = query.order_by(Line.number).limit(limit).with_for_update(skip_locked=True)
        async with AsyncSession(self._writing, expire_on_commit=False) as session, session.begin():
            lines = (await session.execute(query)).scalars().all()
            for line in lines:
                line.state, line.taken_at, line.claim_id = "taken", now_ms(), line.claim_id or ids.new("clm")
        return lines

    @whole
    async def files(self, line: Line) -> dict[str, File] | None:
        """The photos that the line names, as far as they have arrived; those that no other line has become its own.

        None where the batch has ended: its photos are being erased.
        """
        of_line = (File.batch_id == line.batch_id, File.name.in_(line.document["photos"]))
        mine = or_(File.line.is_(None), File.line == line.number)
        held = update(Batch).where(Batch.id == line.batch_id, Batch.status == "processing").values(status="processing")
        async with AsyncSession(self._writing, expire_on_commit=False) as session, session.begin():
            if (await session.execute(held.returning(Batch.id))).first() is None:
                return None
            await session.execute(update(File).where(*of_line, mine).values(line=line.number))
            return {file.name: file for file in (await session.execute(select(File).where(*of_line))).scalars()}

    @whole
    async def sent(self, line: Line) -> None:
        """The line's claim is accepted."""
        await self._settle(line, {"state": "sent"})

    @whole
    async def fail(self, line: Line, error: Json) -> None:
        """The line can be no claim."""
        await self._settle(line, {"state": "failed", "claim_id": None, "error": error})

    @whole
    async def unused(self, batch_id: str) -> Sequence[str]:
        """Ids of photos that no claim has: they go when the batch has ended."""
        query = select(File.photo_id).where(File.batch_id == batch_id, File.line.is_(None), File.sha256.is_not(None))
        async with self._reading.connect() as connection:
            return (await connection.execute(query)).scalars().all()

    @whole
    async def results(self, batch_id: str, after: int, limit: int) -> Sequence[tuple[Line, Claim | None]]:
        """Lines with a number above `after` in their order, each with its claim, photos and findings."""
        lines = select(Line).where(Line.batch_id == batch_id, Line.number > after).order_by(Line.number).limit(limit)
        async with AsyncSession(self._reading) as session:
            page = (await session.execute(lines)).scalars().all()
            wanted = select(Claim).where(Claim.id.in_([line.claim_id for line in page if line.claim_id]))
            wanted = wanted.options(selectinload(Claim.photos).selectinload(Photo.findings))
            claims = {claim.id: claim for claim in (await session.execute(wanted)).scalars()}
        return [(line, claims.get(line.claim_id or "")) for line in page]

    @whole
    async def damages(self, batch_id: str) -> Sequence[str]:
        """The names of all damages that were found, sorted."""
        query = select(Finding.damage).join(Line, Line.claim_id == Finding.claim_id)
        query = query.where(Line.batch_id == batch_id).distinct().order_by(Finding.damage)
        async with self._reading.connect() as connection:
            return (await connection.execute(query)).scalars().all()

    @whole
    async def under_way(self, batch_id: str) -> Sequence[str]:
        """Ids of its claims that are not final."""
        query = select(Claim.id).join(Line, Line.claim_id == Claim.id)
        query = query.where(Line.batch_id == batch_id, Claim.status.in_(("queued", "processing")))
        async with self._reading.connect() as connection:
            return (await connection.execute(query)).scalars().all()

    async def _settle(self, line: Line, changes: Json) -> None:
        mine = (Line.batch_id == line.batch_id, Line.number == line.number, Line.state == "taken")
        async with self._writing.begin() as connection:
            await connection.execute(update(Line).where(*mine).values(changes))
