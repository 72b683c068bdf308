"""Earlier looks at the same bytes, as long as nothing has been learned since."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from services.gateway.records.database import Database
from services.gateway.records.models import Claim, Photo
from services.gateway.records.review_rows import Review
from services.gateway.records.whole import whole

_LEARNED_WITHIN_MS = 600_000  # a decision reaches the memory a little later, whenever that can be reached
_NEWEST = 3

# Written down once: putting them together takes longer than asking them.
_seen_before = (
    select(Photo.id)
    .join(Claim, Claim.id == Photo.claim_id)
    .where(Photo.sha256 == bindparam("sha256"), Photo.status == "succeeded", Claim.tenant == bindparam("tenant"))
    .limit(1)
)
_since = Claim.started_at - _LEARNED_WITHIN_MS
_decided = select(Review.id).where(
    Review.tenant == bindparam("tenant"), or_(Review.created_at > _since, Review.undone_at > _since)
)
_looks = (
    select(Photo)
    .join(Claim, Claim.id == Photo.claim_id)
    .where(
        Photo.sha256 == bindparam("sha256"),
        Photo.status == "succeeded",
        Claim.tenant == bindparam("tenant"),
        ~_decided.exists(),
    )
    .order_by(Photo.id.desc())
    .limit(_NEWEST)
    .options(selectinload(Photo.findings))
)


class Looks:
    def __init__(self, database: Database) -> None:
        self._glance = database.glance
        self._reading = database.reading

    async def at(self, tenant: str, sha256: str) -> Sequence[Photo]:
        """Photos of the tenant with these bytes that were assessed, with findings, newest first.

        None from before the tenant's last decision about a finding: what people say, the memory tells.
        """
        if not await self._glance(_seen_before, tenant=tenant, sha256=sha256):  # as for nearly every photo
            return []
        return await self._load(tenant, sha256)

    @whole
    async def _load(self, tenant: str, sha256: str) -> Sequence[Photo]:
        async with AsyncSession(self._reading) as session:
            return (await session.execute(_looks, {"tenant": tenant, "sha256": sha256})).scalars().all()
