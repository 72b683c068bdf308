"""Erasing claims: the rows at once, and a receipt that knows which files are still to go until none is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import BigInteger, Index, String, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from services.gateway import ids
from services.gateway.records.batch_rows import Line
from services.gateway.records.clock import now_ms
from services.gateway.records.database import Database
from services.gateway.records.idempotency import Idempotency
from services.gateway.records.models import Base, Claim, Finding, Json, Photo
from services.gateway.records.review_rows import Review
from services.gateway.records.whole import whole

Cause = Literal["request", "retention"]


class Erasure(Base):
    """A receipt. It names the claim and counts what went, and holds nothing of what was in it.

    `left` are the photos whose files, and the cases whose vectors, are still to be removed.
    """

    __tablename__ = "erasures"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    claim_id: Mapped[str] = mapped_column(String(40))
    cause: Mapped[str] = mapped_column(String(16))
    key_id: Mapped[str | None] = mapped_column(String(40))
    requested_at: Mapped[int] = mapped_column(BigInteger)
    completed_at: Mapped[int | None] = mapped_column(BigInteger)
    erased: Mapped[Json] = mapped_column()
    left: Mapped[Json] = mapped_column()

    __table_args__ = (Index("ix_erasures_claim_id", "claim_id"), Index("ix_erasures_completed_at", "completed_at"))


@dataclass(frozen=True, slots=True)
class Aged:
    """A claim whose time is over."""

    id: str
    tenant: str


class ErasureStore:
    """Receipts, and the rows they stand for; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._reading = database.reading
        self._writing = database.writing

    @whole
    async def begin(self, claim_id: str, tenant: str, cause: Cause, key_id: str | None = None) -> Erasure | None:
        """Remove every row of the tenant's claim, whatever its status; None where there is no such claim.

        A worker that is at it cannot write any more: its claim is gone.
        """
        async with AsyncSession(self._writing) as session, session.begin():
            owned = (Claim.id == claim_id, Claim.tenant == tenant)
            if await session.scalar(select(Claim.id).where(*owned).with_for_update()) is None:
                return None
            photos = list((await session.scalars(select(Photo.id).where(Photo.claim_id == claim_id))).all())
            cases = list((await session.scalars(select(Review.id).where(Review.claim_id == claim_id))).all())
            findings = await session.scalar(select(func.count()).where(Finding.claim_id == claim_id))
            await session.execute(delete(Claim).where(*owned))  # photos, findings, decisions, deliveries go with it
            await session.execute(update(Line).where(Line.claim_id == claim_id).values(document={"photos": []}))
            await session.execute(delete(Idempotency).where(Idempotency.resource.in_([claim_id, *photos])))
            row = {
                "id": ids.new("era"),
                "tenant": tenant,
                "claim_id": claim_id,
                "cause": cause,
                "key_id": key_id,
                "requested_at": now_ms(),
                "erased": {"photos": len(photos), "findings": findings, "decisions": len(cases), "files": 0},
                "left": {"photos": photos, "cases": cases},
            }
            await session.execute(insert(Erasure), [row])
        return Erasure(**row, completed_at=None)

    @whole
    async def complete(self, erasure_id: str, files: int) -> Erasure:
        """Nothing is left; `files` were removed now. Two that complete the same one agree."""
        async with AsyncSession(self._writing, expire_on_commit=False) as session, session.begin():
            row = await session.get_one(Erasure, erasure_id, with_for_update=True)
            if row.completed_at is None:
                row.erased = row.erased | {"files": files}
                row.left = {"photos": [], "cases": []}
                row.completed_at = now_ms()
            return row

    @whole
    async def of(self, claim_id: str, tenant: str) -> Erasure | None:
        """The receipt of a claim that was erased."""
        query = select(Erasure).where(Erasure.claim_id == claim_id, Erasure.tenant == tenant)
        async with AsyncSession(self._reading) as session:
            return (await session.scalars(query)).first()

    @whole
    async def pending(self, limit: int = 100) -> Sequence[Erasure]:
        """Receipts with something left: the photo store or the memory was away."""
        query = select(Erasure).where(Erasure.completed_at.is_(None)).order_by(Erasure.id).limit(limit)
        async with AsyncSession(self._reading) as session:
            return (await session.scalars(query)).all()

    @whole
    async def aged(self, before: int, limit: int = 100) -> Sequence[Aged]:
        """Claims that ended before the moment `before` (ms), the oldest first."""
        query = select(Claim.id, Claim.tenant).where(Claim.completed_at < before).order_by(Claim.completed_at)
        async with self._reading.connect() as connection:
            return [Aged(row[0], row[1]) for row in await connection.execute(query.limit(limit))]
