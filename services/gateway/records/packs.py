"""Rules and trials of packs; every method is one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway import ids
from services.gateway.records.clock import now_ms
from services.gateway.records.database import Database
from services.gateway.records.models import Json
from services.gateway.records.pack_rows import PackRule, PackTrial
from services.gateway.records.whole import whole

SERVICES = ("segmenter", "classifier")
_rules = select(PackRule.service, PackRule.active, PackRule.previous, PackRule.candidate, PackRule.share)


@dataclass(frozen=True, slots=True)
class Rule:
    """Versions; an `active` of None is whichever the service has as its own."""

    active: str | None = None
    previous: str | None = None
    candidate: str | None = None
    share: float = 0.0

    def activated(self, version: str | None, instead_of: str | None) -> Rule:
        """`version` answers from now on in the place of `instead_of`; a candidate that is promoted is none any more."""
        tried = (None, 0.0) if self.candidate == version else (self.candidate, self.share)
        return Rule(version, instead_of, *tried)

    def trying(self, candidate: str | None, share: float) -> Rule:
        return replace(self, candidate=candidate, share=share)


@dataclass(frozen=True, slots=True)
class Trial:
    claim_id: str
    photo_id: str
    pair: str
    comparison: Json
    answer: Json
    error: str | None = None


class PackStore:
    def __init__(self, database: Database) -> None:
        self._glance = database.glance
        self._reading = database.reading
        self._writing = database.writing

    async def rules(self) -> dict[str, Rule]:
        """Of every service, also of one that nobody has ruled about."""
        rows = await self._glance(_rules)
        found = {row.service: Rule(row.active, row.previous, row.candidate, row.share) for row in rows}
        return {service: found.get(service, Rule()) for service in SERVICES}

    @whole
    async def rule(self, service: str, rule: Rule) -> None:
        """From here on every claim that is begun goes by it."""
        row = {
            "service": service,
            "active": rule.active,
            "previous": rule.previous,
            "candidate": rule.candidate,
            "share": rule.share,
            "changed_at": now_ms(),
        }
        async with self._writing.begin() as connection:
            await connection.execute(delete(PackRule).where(PackRule.service == service))
            await connection.execute(insert(PackRule), [row])

    @whole
    async def record(self, trials: Sequence[Trial]) -> None:
        rows = [
            {
                "id": ids.new("trl"),
                "claim_id": trial.claim_id,
                "photo_id": trial.photo_id,
                "created_at": now_ms(),
                "pair": trial.pair,
                "error": trial.error,
                "comparison": trial.comparison,
                "answer": trial.answer,
            }
            for trial in trials
        ]
        async with self._writing.begin() as connection:
            await connection.execute(insert(PackTrial), rows)

    @whole
    async def of_claim(self, claim_id: str) -> Sequence[PackTrial]:
        async with AsyncSession(self._reading) as session:
            query = select(PackTrial).where(PackTrial.claim_id == claim_id).order_by(PackTrial.id)
            return (await session.scalars(query)).all()

    @whole
    async def newest(self, limit: int) -> Sequence[tuple[str, str, str | None, Json]]:
        """(pair, claim id, error, comparison) of the newest trials, the newest first."""
        columns = select(PackTrial.pair, PackTrial.claim_id, PackTrial.error, PackTrial.comparison)
        async with self._reading.connect() as connection:
            found = await connection.execute(columns.order_by(PackTrial.id.desc()).limit(limit))
            return [(pair, claim_id, error, comparison) for pair, claim_id, error, comparison in found]
