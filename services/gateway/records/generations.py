"""The records of generations. A status goes one way: queued -> processing -> succeeded | failed | canceled."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from services.gateway import schemas
from services.gateway.records.attempts import StaleAttempt
from services.gateway.records.clock import now_ms
from services.gateway.records.database import Database
from services.gateway.records.generation_rows import GeneratedImage, Generation
from services.gateway.records.models import Json
from services.gateway.records.whole import whole

_OPEN = ("queued", "processing")
_count = select(func.count()).select_from(GeneratedImage)
_made = select(GeneratedImage.id).where(GeneratedImage.sha256 == bindparam("sha256")).limit(1)


@dataclass(frozen=True, slots=True)
class NewImage:
    id: str
    sha256: str
    hash: int
    fingerprint: bytes
    document: Json


class GenerationStore:
    """Generations and the registry of what came of them; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._glance = database.glance
        self._reading = database.reading
        self._writing = database.writing

    @whole
    async def accept(self, generation_id: str, *, tenant: str, key_id: str | None, ask: Json, total: int) -> None:
        row = {"id": generation_id, "tenant": tenant, "key_id": key_id, "ask": ask, "total": total}
        async with self._writing.begin() as connection:
            await connection.execute(insert(Generation), [row | {"status": "queued", "created_at": now_ms()}])

    @whole
    async def load(self, generation_id: str, *, tenant: str | None = None) -> Generation | None:
        """The generation with its images; with `tenant`, only where it is that tenant's."""
        query = select(Generation).where(Generation.id == generation_id).options(selectinload(Generation.images))
        if tenant is not None:
            query = query.where(Generation.tenant == tenant)
        async with AsyncSession(self._reading) as session:
            return (await session.execute(query)).scalar_one_or_none()

    @whole
    async def list(self, tenant: str, *, limit: int, before: str | None = None) -> Sequence[Generation]:
        """Newest first, with images."""
        query = select(Generation).where(Generation.tenant == tenant).options(selectinload(Generation.images))
        if before is not None:
            query = query.where(Generation.id < before)
        async with AsyncSession(self._reading) as session:
            return (await session.execute(query.order_by(Generation.id.desc()).limit(limit))).scalars().all()

    @whole
    async def unfinished(self, *, older_than_ms: int) -> Sequence[str]:
        query = select(Generation.id).where(Generation.status.in_(_OPEN))
        query = query.where(Generation.created_at < now_ms() - older_than_ms).order_by(Generation.id).limit(1000)
        async with self._reading.connect() as connection:
            return (await connection.execute(query)).scalars().all()

    @whole
    async def begin(self, generation_id: str) -> int:
        """Start an attempt; all earlier ones can no longer write. Raises StaleAttempt where it is finished."""
        changes = {
            "status": "processing",
            "attempt": Generation.attempt + 1,
            "started_at": func.coalesce(Generation.started_at, now_ms()),
        }
        query = update(Generation).where(Generation.id == generation_id, Generation.status.in_(_OPEN)).values(changes)
        async with self._writing.begin() as connection:
            attempt = (await connection.execute(query.returning(Generation.attempt))).scalar_one_or_none()
        if attempt is None:
            raise StaleAttempt(generation_id)
        return attempt

    async def report(self, generation_id: str, attempt: int, done: int) -> None:
        """Note progress; raises StaleAttempt where the generation was canceled or taken over."""
        await self._write(generation_id, attempt, {"done": done})

    async def lose(self, generation_id: str, attempt: int) -> int:
        """The generator died while it drew this: how often that is by now."""
        return await self._write(generation_id, attempt, {"lost": Generation.lost + 1, "done": 0})

    async def fail(self, generation_id: str, attempt: int, error: schemas.Error) -> None:
        changes = {"status": "failed", "completed_at": now_ms(), "error": error.model_dump()}
        await self._write(generation_id, attempt, changes)

    async def succeed(self, generation_id: str, attempt: int, images: Sequence[NewImage], model: Json) -> None:
        """Finish; from here on every gateway knows these pictures, and only from here on can anybody fetch them."""
        changes = {"status": "succeeded", "completed_at": now_ms(), "done": Generation.total, "model": model}
        await self._write(generation_id, attempt, changes, images)

    @whole
    async def _write(self, generation_id: str, attempt: int, changes: Json, images: Sequence[NewImage] = ()) -> int:
        query = update(Generation).where(
            Generation.id == generation_id, Generation.attempt == attempt, Generation.status == "processing"
        )
        async with self._writing.begin() as connection:
            lost = (await connection.execute(query.values(changes).returning(Generation.lost))).scalar_one_or_none()
            if lost is None:
                raise StaleAttempt(generation_id)
            rows = [
                {
                    "id": image.id,
                    "generation_id": generation_id,
                    "number": number,
                    "sha256": image.sha256,
                    "hash": f"{image.hash:016x}",
                    "fingerprint": image.fingerprint,
                    "document": image.document,
                    "created_at": now_ms(),
                }
                for number, image in enumerate(images)
            ]
            if rows:
                await connection.execute(insert(GeneratedImage), rows)
        return lost

    @whole
    async def cancel(self, generation_id: str) -> bool:
        """End a generation that is not finished; False where it is. A worker that still draws it cannot write."""
        query = update(Generation).where(Generation.id == generation_id, Generation.status.in_(_OPEN))
        changes = {"status": "canceled", "completed_at": now_ms()}
        async with self._writing.begin() as connection:
            ended = await connection.execute(query.values(changes).returning(Generation.id))
            return ended.scalar_one_or_none() is not None

    async def made(self, sha256: str) -> bool:
        """Whether a picture with exactly these bytes is ours."""
        return bool(await self._glance(_made, sha256=sha256))

    @whole
    async def registered(self) -> frozenset[str]:
        """Ids of every picture ever made."""
        async with self._reading.connect() as connection:
            return frozenset((await connection.execute(select(GeneratedImage.id))).scalars())

    async def count(self) -> int:
        return (await self._glance(_count))[0][0]

    @whole
    async def fingerprints(self, image_ids: Collection[str]) -> Sequence[tuple[str, bytes]]:
        columns = select(GeneratedImage.id, GeneratedImage.fingerprint)
        async with self._reading.connect() as connection:
            found = await connection.execute(columns.where(GeneratedImage.id.in_(image_ids)))
            return [(row.id, row.fingerprint) for row in found]
