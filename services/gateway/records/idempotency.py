"""Idempotency keys (draft-ietf-httpapi-idempotency-key-header-07): which request a key belongs to, and what it made.

The id of what a request will make is chosen and written down before it is made. Whether it was made is then asked of
the thing itself: a process that dies in between leaves no doubt, and whoever tries again makes the same thing.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, String, delete, insert, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from services.gateway.records.clock import now_ms
from services.gateway.records.database import Database
from services.gateway.records.models import Base
from services.gateway.records.whole import whole

KEPT_MS = 24 * 3600 * 1000


class Idempotency(Base):
    """`fingerprint` is the SHA-256 of all that the request asked for; `since` when an attempt last began."""

    __tablename__ = "idempotency"

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    resource: Mapped[str] = mapped_column(String(40), index=True)
    since: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[int] = mapped_column(BigInteger, index=True)


class IdempotencyStore:
    """Entries of all tenants; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._reading = database.reading
        self._writing = database.writing

    @whole
    async def enter(self, tenant: str, key: str, fingerprint: str, resource: str) -> Idempotency | None:
        """Write the entry down and answer None; where the key is known already, answer what it belongs to."""
        now = now_ms()
        row = {"tenant": tenant, "key": key, "fingerprint": fingerprint, "resource": resource}
        expired = (Idempotency.tenant == tenant, Idempotency.key == key, Idempotency.created_at < now - KEPT_MS)
        while True:
            try:
                async with self._writing.begin() as connection:
                    await connection.execute(delete(Idempotency).where(*expired))
                    await connection.execute(insert(Idempotency), [row | {"since": now, "created_at": now}])
                return None
            except IntegrityError:
                async with AsyncSession(self._reading) as session:
                    known = await session.get(Idempotency, (tenant, key))
                if known is not None:  # else the one before has just left it
                    return known

    @whole
    async def take_over(self, entry: Idempotency) -> bool:
        """Begin another attempt in place of one that died; False where somebody else was faster."""
        async with self._writing.begin() as connection:
            mine = (Idempotency.tenant == entry.tenant, Idempotency.key == entry.key, Idempotency.since == entry.since)
            taken = await connection.execute(
                update(Idempotency).where(*mine).values(since=now_ms()).returning(Idempotency.key)
            )
            return taken.first() is not None

    @whole
    async def leave(self, tenant: str, key: str) -> None:
        """Nothing was made: the key is free again."""
        async with self._writing.begin() as connection:
            await connection.execute(delete(Idempotency).where(Idempotency.tenant == tenant, Idempotency.key == key))

    @whole
    async def forget_expired(self) -> None:
        async with self._writing.begin() as connection:
            await connection.execute(delete(Idempotency).where(Idempotency.created_at < now_ms() - KEPT_MS))
