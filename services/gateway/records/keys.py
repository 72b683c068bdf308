"""API keys as the records hold them: never the secret, only what recognises it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import BigInteger, Index, String, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from services.gateway.records.clock import now_ms
from services.gateway.records.database import Database
from services.gateway.records.models import Base
from services.gateway.records.whole import whole

LIVE_PER_NAME = 2  # the one in use and its successor: enough to change keys without a pause, few enough to keep track


class ApiKey(Base):
    """One key of a tenant. Revoked keys stay: who once had access is part of the truth.

    `sha256` is the hash of the whole key. A slow hash would add nothing: nobody guesses 256 random bits.
    """

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(100))
    prefix: Mapped[str] = mapped_column(String(32), unique=True)
    sha256: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[str]] = mapped_column()
    created_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int | None] = mapped_column(BigInteger)
    last_used_at: Mapped[int | None] = mapped_column(BigInteger)
    revoked_at: Mapped[int | None] = mapped_column(BigInteger)

    __table_args__ = (Index("ix_api_keys_tenant", "tenant", "id"),)


class TooManyKeys(Exception):
    """The name has as many live keys as it may."""


class KeyStore:
    """Keys of all tenants; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._glance = database.glance
        self._reading = database.reading
        self._writing = database.writing

    @whole
    async def add(
        self,
        key_id: str,
        *,
        tenant: str,
        name: str,
        prefix: str,
        sha256: str,
        scopes: Sequence[str],
        expires_at: int | None = None,
    ) -> ApiKey:
        """Raises TooManyKeys where two keys of that name are live."""
        row = {
            "id": key_id,
            "tenant": tenant,
            "name": name,
            "prefix": prefix,
            "sha256": sha256,
            "scopes": sorted(scopes),
            "created_at": now_ms(),
            "expires_at": expires_at,
        }
        async with self._writing.begin() as connection:
            if await _live(connection, tenant, name) >= LIVE_PER_NAME:
                raise TooManyKeys(name)
            await connection.execute(insert(ApiKey), [row])
        return ApiKey(**row)

    @whole
    async def find(self, prefix: str) -> ApiKey | None:
        async with AsyncSession(self._reading) as session:
            return (await session.execute(select(ApiKey).where(ApiKey.prefix == prefix))).scalar_one_or_none()

    async def any(self) -> bool:
        """Whether a key was ever made: from then on, nobody enters without one."""
        return bool(await self._glance(select(ApiKey.id).limit(1)))

    @whole
    async def list(self, tenant: str) -> Sequence[ApiKey]:
        """The tenant's keys, newest first, revoked ones too."""
        query = select(ApiKey).where(ApiKey.tenant == tenant).order_by(ApiKey.id.desc())
        async with AsyncSession(self._reading) as session:
            return (await session.execute(query)).scalars().all()

    @whole
    async def revoke(self, key_id: str, tenant: str) -> ApiKey | None:
        """The key, revoked now or earlier; None where the tenant has no such key."""
        async with AsyncSession(self._writing) as session, session.begin():
            key = await session.scalar(
                update(ApiKey)
                .where(ApiKey.id == key_id, ApiKey.tenant == tenant)
                .values(revoked_at=func.coalesce(ApiKey.revoked_at, now_ms()))
                .returning(ApiKey)
            )
            session.expunge_all()
            return key

    @whole
    async def used(self, key_id: str) -> None:
        async with self._writing.begin() as connection:
            await connection.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=now_ms()))


async def _live(connection: AsyncConnection, tenant: str, name: str) -> int:
    query = select(func.count()).where(
        ApiKey.tenant == tenant,
        ApiKey.name == name,
        ApiKey.revoked_at.is_(None),
        or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now_ms()),
    )
    return int((await connection.execute(query)).scalar_one())
