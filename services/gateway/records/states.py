"""Whose a claim is and how far it is: what every poll asks, and so one small statement at most."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam, case, func, select
from sqlalchemy.orm import aliased

from services.gateway.records.database import Database
from services.gateway.records.models import Claim

_OWNERS_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class State:
    """`version` counts up with every change of the claim; `place` is how many wait before it, while it waits."""

    status: str
    version: int
    place: int | None


_before = aliased(Claim)
_place = select(func.count()).where(_before.status == "queued", _before.id < Claim.id).correlate(Claim)
_state = select(Claim.status, Claim.version, case((Claim.status == "queued", _place.scalar_subquery()))).where(
    Claim.id == bindparam("claim_id")
)
_owner = select(Claim.tenant).where(Claim.id == bindparam("claim_id"))


class States:
    """Glances at one row at a time: nothing has to be `whole`, since nothing is begun that could stay open."""

    def __init__(self, database: Database) -> None:
        self._glance = database.glance
        self._owners: dict[str, str] = {}  # a claim never changes hands, so a poll need not ask again

    async def of(self, claim_id: str) -> State | None:
        """The claim's state, or None where there is no such claim."""
        found = await self._glance(_state, claim_id=claim_id)
        return State(*found[0]) if found else None

    async def known(self, claim_id: str) -> bool:
        return await self.of(claim_id) is not None

    async def owner(self, claim_id: str) -> str | None:
        """Whose claim it is, or None where there is no such claim."""
        known = self._owners.get(claim_id)
        if known is None:
            found = await self._glance(_owner, claim_id=claim_id)
            if found:
                known = found[0].tenant
                if len(self._owners) >= _OWNERS_REMEMBERED:
                    self._owners.clear()
                self._owners[claim_id] = known
        return known
