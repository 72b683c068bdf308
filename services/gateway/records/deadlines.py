"""Claims that were not concluded by their deadline: they end `expired`, whoever works on them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, select, update

from services.gateway import schemas
from services.gateway.records import outbox
from services.gateway.records.clock import now_ms
from services.gateway.records.database import Database
from services.gateway.records.models import OPEN, Claim
from services.gateway.records.whole import whole

_passed = (
    select(Claim.id)
    .where(Claim.status.in_(OPEN), Claim.expires_at <= bindparam("now"))
    .order_by(Claim.id)
    .limit(bindparam("limit"))
)


class Deadlines:
    def __init__(self, database: Database) -> None:
        self._glance = database.glance
        self._writing = database.writing

    async def passed(self, *, limit: int = 100) -> Sequence[str]:
        """Ids of open claims whose deadline is over."""
        return [row.id for row in await self._glance(_passed, now=now_ms(), limit=limit)]

    @whole
    async def expire(self, claim_id: str, error: schemas.Error) -> bool:
        """End the claim, unless it has ended. Its attempt is counted up, so that no worker can write to it any more."""
        changes = {"status": "expired", "attempt": Claim.attempt + 1, "completed_at": now_ms()}
        async with self._writing.begin() as connection:
            done = await connection.execute(
                update(Claim)
                .where(Claim.id == claim_id, Claim.status.in_(OPEN))
                .values(changes | {"error": error.model_dump()})
                .returning(Claim.id)
            )
            if done.first() is None:
                return False
            await outbox.announce(connection, claim_id)
            return True
