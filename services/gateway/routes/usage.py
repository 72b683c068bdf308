"""`GET /v1/usage`: what the caller's tenant has used and what it may."""

from __future__ import annotations

from datetime import datetime, timedelta

from fastapi import APIRouter

from services.gateway.callers import SCOPES, Scope
from services.gateway.quotas import Quota
from services.gateway.records.clock import now_ms, to_datetime
from services.gateway.records.usage import Used, today
from services.gateway.routes.deps import Reader, Running
from services.gateway.schemas import Api

router = APIRouter(tags=["keys"])


class Amount(Api):
    claims: int
    photos: int
    bytes: int


class Usage(Api):
    """Days and months are those of UTC; erased claims stay counted."""

    tenant: str
    scopes: list[Scope]
    today: Amount
    month: Amount
    open_claims: int
    quota: Quota
    resets_at: datetime


@router.get("/v1/usage")
async def usage(runtime: Running, caller: Reader) -> Usage:
    """How much of its share the caller's tenant has used; in `quota`, 0 is no bound."""
    day = today()
    midnight = to_datetime(now_ms()).replace(hour=0, minute=0, second=0, microsecond=0)
    return Usage(
        tenant=caller.tenant,
        scopes=[scope for scope in sorted(SCOPES) if scope in caller.scopes],
        today=_shown(await runtime.usage.since(caller.tenant, day)),
        month=_shown(await runtime.usage.since(caller.tenant, f"{day[:8]}01")),
        open_claims=await runtime.usage.open_claims(caller.tenant),
        quota=runtime.quotas.of(caller),
        resets_at=midnight + timedelta(days=1),
    )


def _shown(used: Used) -> Amount:
    return Amount(claims=used.claims, photos=used.photos, bytes=used.bytes)
