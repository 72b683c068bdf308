"""Batches as a client fills them: created, parts and manifest put, started, canceled, looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import CursorResult, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from services.common.serving.errors import BatchClosed, NotFound, PayloadTooLarge, Unprocessable
from services.gateway.records.batch_rows import Batch, File, Line, Part
from services.gateway.records.clock import now_ms
from services.gateway.records.database import Database
from services.gateway.records.models import Claim, Json
from services.gateway.records.whole import whole

_AT_ONCE = 500  # rows in one statement


@dataclass(frozen=True, slots=True)
class Counts:
    """A batch's lines: how many there are, wait to become claims, are claims under way, have ended, ended badly."""

    total: int = 0
    waiting: int = 0
    open: int = 0
    done: int = 0
    failed: int = 0


class BatchStore:
    """Every method is one transaction. Those that change a batch raise NotFound and BatchClosed."""

    def __init__(self, database: Database, *, max_photos: int) -> None:
        """`max_photos`: in one batch, all parts together; also the most lines of a manifest."""
        self._reading = database.reading
        self._writing = database.writing
        self._max_photos = max_photos

    @whole
    async def create(self, batch_id: str, *, tenant: str, external_ref: str | None, metadata: Json) -> None:
        row = {"id": batch_id, "tenant": tenant, "status": "uploading", "created_at": now_ms()}
        async with self._writing.begin() as connection:
            await connection.execute(insert(Batch), [{**row, "external_ref": external_ref, "metadata": metadata}])

    @whole
    async def load(self, batch_id: str, tenant: str) -> Batch:
        """Raises NotFound, for another tenant's batch too."""
        query = select(Batch).where(Batch.id == batch_id, Batch.tenant == tenant)
        async with AsyncSession(self._reading) as session:
            batch = (await session.execute(query)).scalar_one_or_none()
        if batch is None:
            raise no_such_batch()
        return batch

    @whole
    async def known(self, batch_id: str) -> bool:
        async with self._reading.connect() as connection:
            found = await connection.execute(select(Batch.id).where(Batch.id == batch_id))
            return found.first() is not None

    @whole
    async def list(self, *, tenant: str, limit: int, before: str | None) -> Sequence[Batch]:
        """Newest first, those older than `before`."""
        query = select(Batch).where(Batch.tenant == tenant).order_by(Batch.id.desc()).limit(limit)
        if before is not None:
            query = query.where(Batch.id < before)
        async with AsyncSession(self._reading) as session:
            return (await session.execute(query)).scalars().all()

    @whole
    async def parts(self, batch_id: str) -> Sequence[Part]:
        async with AsyncSession(self._reading) as session:
            found = await session.execute(select(Part).where(Part.batch_id == batch_id).order_by(Part.number))
            return found.scalars().all()

    @whole
    async def counts(self, batch_id: str) -> Counts:
        """Before the batch has started without a manifest, its photos are not lines yet."""
        query = select(Line.state, Claim.status, func.count()).outerjoin(Claim, Claim.id == Line.claim_id)
        query = query.where(Line.batch_id == batch_id).group_by(Line.state, Claim.status)
        async with self._reading.connect() as connection:
            rows = (await connection.execute(query)).all()
        number = {"waiting": 0, "open": 0, "done": 0, "failed": 0}
        for state, status, count in rows:
            if state in ("waiting", "taken"):
                number["waiting"] += count
            elif state == "sent" and status in ("queued", "processing"):
                number["open"] += count
            else:  # a claim that is gone was erased: its line has ended, too
                number["done"] += count
                number["failed"] += count if state == "failed" or status in ("failed", "expired") else 0
        return Counts(total=sum(row[2] for row in rows), **number)

    @whole
    async def put_part(self, part: Json, files: Sequence[Json]) -> Sequence[str]:
        """Keep a part and its files instead of an earlier one of that number, whose photos' ids are returned.

        Raises Unprocessable where another part has a file of the same name, PayloadTooLarge where the batch is full.
        """
        async with self._open(part["batch_id"]) as connection:
            of_part = (File.batch_id == part["batch_id"], File.part == part["number"])
            replaced = (await connection.execute(select(File.photo_id).where(*of_part))).scalars().all()
            await connection.execute(delete(File).where(*of_part))
            same = (Part.batch_id == part["batch_id"], Part.number == part["number"])
            await connection.execute(delete(Part).where(*same))
            present = select(func.count()).where(File.batch_id == part["batch_id"])
            if (await connection.execute(present)).scalar_one() + len(files) > self._max_photos:
                raise PayloadTooLarge(f"A batch takes {self._max_photos} photos. Send the others as another batch.")
            for some in _chunks(files):
                names = [file["name"] for file in some]
                twice = select(File.name, File.part).where(File.batch_id == part["batch_id"], File.name.in_(names))
                if (found := (await connection.execute(twice)).first()) is not None:
                    raise Unprocessable(f"Part {found[1]} has a photo named {found[0]!r} already. Names must differ.")
                await connection.execute(insert(File), some)
            await connection.execute(insert(Part), [part])
        return replaced

    @whole
    async def put_manifest(self, batch_id: str, lines: Iterable[Json]) -> None:
        """Keep these lines instead of earlier ones. Raises PayloadTooLarge, and what reading `lines` raises."""
        async with self._open(batch_id) as connection:
            await connection.execute(delete(Line).where(Line.batch_id == batch_id))
            number = 0
            for some in _chunks(lines):
                number += len(some)
                if number > self._max_photos:
                    raise PayloadTooLarge(
                        f"A manifest takes {self._max_photos} lines. Send the others as another batch."
                    )
                await connection.execute(insert(Line), [{"batch_id": batch_id, "error": None, **line} for line in some])

    @whole
    async def start(self, batch_id: str) -> None:
        """Begin; without a manifest every photo is a line of its own. Raises Unprocessable for an empty batch."""
        async with self._open(batch_id) as connection:
            named = (await connection.execute(select(Line.number).where(Line.batch_id == batch_id).limit(1))).first()
            if named is None:
                query = select(File.name).where(File.batch_id == batch_id).order_by(File.name)
                names = (await connection.execute(query)).scalars().all()
                if not names:
                    raise Unprocessable("The batch is empty. Put at least one part with photos first.")
                for some in _chunks(enumerate(names, start=1)):
                    await connection.execute(insert(Line), [_alone(batch_id, number, name) for number, name in some])
            changes = {"status": "processing", "started_at": now_ms()}
            await connection.execute(update(Batch).where(Batch.id == batch_id).values(changes))

    @whole
    async def end(self, batch_id: str, status: str, *, among: Sequence[str] = ("uploading", "processing")) -> bool:
        """Give the batch its final status; False where it had one already."""
        async with self._writing.begin() as connection:
            ended: CursorResult[Any] = await connection.execute(
                update(Batch)
                .where(Batch.id == batch_id, Batch.status.in_(among))
                .values(status=status, completed_at=now_ms())
            )
            return ended.rowcount == 1

    @asynccontextmanager
    async def _open(self, batch_id: str) -> AsyncIterator[AsyncConnection]:
        """A transaction that holds the batch's row, and with it the batch still being filled."""
        async with self._writing.begin() as connection:
            held: CursorResult[Any] = await connection.execute(
                update(Batch).where(Batch.id == batch_id, Batch.status == "uploading").values(status="uploading")
            )
            if held.rowcount != 1:
                raise BatchClosed("The batch has been started, canceled or has expired. Send more as another batch.")
            yield connection


def no_such_batch() -> NotFound:
    return NotFound("There is no such batch. Batch ids look like bat_ and 26 letters and digits")


def _alone(batch_id: str, number: int, name: str) -> Json:
    return {"batch_id": batch_id, "number": number, "key": name, "document": {"photos": [name]}}


def _chunks(rows: Iterable[Any]) -> Iterator[list[Any]]:
    left = iter(rows)
    while some := list(islice(left, _AT_ONCE)):
        yield some
