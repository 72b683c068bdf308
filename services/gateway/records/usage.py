"""What each tenant has sent, day by day (UTC). It outlives erased claims: deleting one gives no quota back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from sqlalchemy import BigInteger, String, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.dml import ReturningInsert

from services.gateway.records.clock import now_ms, to_datetime
from services.gateway.records.database import Database
from services.gateway.records.models import OPEN, Base, Claim


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


# Written down once: putting them together takes longer than asking them.
_since = select(
    *(func.coalesce(func.sum(column), 0) for column in (UsageDay.claims, UsageDay.photos, UsageDay.bytes))
).where(UsageDay.tenant == bindparam("tenant"), UsageDay.day >= bindparam("day"))
_open = select(func.count()).where(Claim.tenant == bindparam("tenant"), Claim.status.in_(OPEN))
_lines = (
    select(Claim.tenant, func.count()).where(Claim.status.in_(OPEN), Claim.lane == "interactive").group_by(Claim.tenant)
)
_finished = select(func.count(), func.min(Claim.started_at)).where(
    Claim.completed_at > bindparam("since"), Claim.status.in_(("succeeded", "failed"))
)


def _counting(row: postgresql.Insert | sqlite.Insert) -> ReturningInsert[int]:
    added = {name: getattr(UsageDay, name) + row.excluded[name] for name in ("claims", "photos", "bytes")}
    return row.on_conflict_do_update(index_elements=["tenant", "day"], set_=added).returning(UsageDay.photos)


_count = {"postgresql": _counting(postgresql.insert(UsageDay)), "sqlite": _counting(sqlite.insert(UsageDay))}


class UsageStore:
    def __init__(self, database: Database) -> None:
        self._glance = database.glance

    async def since(self, tenant: str, day: str) -> Used:
        """All that the tenant sent on `day` (as `today` writes it) and later."""
        return Used(*map(int, (await self._glance(_since, tenant=tenant, day=day))[0]))

    async def open_claims(self, tenant: str) -> int:
        """How many of the tenant's claims are not final."""
        return (await self._glance(_open, tenant=tenant))[0][0]

    async def ahead(self, tenant: str) -> int:
        """How many open claims are worked on before a new one of the tenant: of nobody more than of itself and one."""
        counts = {name: int(count) for name, count in await self._glance(_lines)}
        turns = counts.get(tenant, 0) + 1
        return sum(min(count, turns) for count in counts.values())

    async def throughput(self, window_s: int) -> float:
        """Claims finished a second, over the part of the last `window_s` seconds in which there was work."""
        now = now_ms()
        finished, first = (await self._glance(_finished, since=now - window_s * 1000))[0]
        busy_ms = min(window_s * 1000, now - first) if first else window_s * 1000
        return float(finished * 1000 / max(busy_ms, 1))


async def count(connection: AsyncConnection, tenant: str, used: Used, bounds: Bounds) -> None:
    """Add to today's row, inside the transaction that accepts what is counted; raises OverQuota.

    Whoever adds holds the row until the transaction ends, so that two uploads of one tenant are judged one by one.
    """
    row = {"tenant": tenant, "day": today(), **asdict(used)}
    photos = (await connection.execute(_count[connection.dialect.name], row)).scalar_one()
    if bounds.photos_per_day and photos > bounds.photos_per_day:
        raise OverQuota("photos_per_day")
    if bounds.open_claims and used.claims:
        opened = (await connection.execute(_open, {"tenant": tenant})).scalar_one()
        if opened >= bounds.open_claims:
            raise OverQuota("open_claims")


def today() -> str:
    return to_datetime(now_ms()).date().isoformat()
