"""What each tenant has sent, day by day (UTC). It outlives erased claims: deleting one gives no quota back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import BigInteger, String, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from services.gateway.records.clock import now_ms, to_datetime
from services.gateway.records.database import Database
from services.gateway.records.models import OPEN, Base, Claim
from services.gateway.records.whole import whole


class UsageDay(Base):
    """Accepted claims, photos and bytes of one tenant on one day."""

    __tablename__ = "usage_days"

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    claims: Mapped[int] = mapped_column(BigInteger)
    photos: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)


@dataclass(frozen=True, slots=True)
class Used:
    claims: int = 0
    photos: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a tenant may have accepted; 0 is no bound."""

    photos_per_day: int = 0
    open_claims: int = 0


UNBOUNDED = Bounds()


class OverQuota(Exception):
    """Accepting this would pass one of the tenant's bounds; nothing was written."""

    def __init__(self, which: Literal["photos_per_day", "open_claims"]) -> None:
        super().__init__(which)
        self.which = which


class UsageStore:
    def __init__(self, database: Database) -> None:
        self._reading = database.reading

    @whole
    async def since(self, tenant: str, day: str) -> Used:
        """All that the tenant sent on `day` (as `today` writes it) and later."""
        columns = [func.coalesce(func.sum(column), 0) for column in (UsageDay.claims, UsageDay.photos, UsageDay.bytes)]
        query = select(*columns).where(UsageDay.tenant == tenant, UsageDay.day >= day)
        async with self._reading.connect() as connection:
            return Used(*map(int, (await connection.execute(query)).one()))

    @whole
    async def open_claims(self, tenant: str) -> int:
        """How many of the tenant's claims are not final."""
        async with self._reading.connect() as connection:
            return await _open(connection, tenant)

    @whole
    async def throughput(self, window_s: int) -> float:
        """Claims finished a second, over the part of the last `window_s` seconds in which there was work."""
        now = now_ms()
        query = select(func.count(), func.min(Claim.started_at)).where(Claim.completed_at > now - window_s * 1000)
        async with self._reading.connect() as connection:
            finished, first = (await connection.execute(query)).one()
        busy_ms = min(window_s * 1000, now - first) if first else window_s * 1000
        return float(finished * 1000 / max(busy_ms, 1))


async def count(connection: AsyncConnection, tenant: str, used: Used, bounds: Bounds) -> None:
    """Add to today's row, inside the transaction that accepts what is counted; raises OverQuota.

    Whoever adds holds the row until the transaction ends, so that two uploads of one tenant are judged one by one.
    """
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    values = {"claims": used.claims, "photos": used.photos, "bytes": used.bytes}
    row = dialect.insert(UsageDay).values(tenant=tenant, day=today(), **values)
    added = {name: getattr(UsageDay, name) + value for name, value in values.items()}
    counted = row.on_conflict_do_update(index_elements=["tenant", "day"], set_=added).returning(UsageDay.photos)
    photos = (await connection.execute(counted)).scalar_one()
    if bounds.photos_per_day and photos > bounds.photos_per_day:
        raise OverQuota("photos_per_day")
    if bounds.open_claims and used.claims and await _open(connection, tenant) >= bounds.open_claims:
        raise OverQuota("open_claims")


async def _open(connection: AsyncConnection, tenant: str) -> int:
    query = select(func.count()).where(Claim.tenant == tenant, Claim.status.in_(OPEN))
    return int((await connection.execute(query)).scalar_one())


def today() -> str:
    return to_datetime(now_ms()).date().isoformat()
