"""Waiting for a claim: woken by change hints, and looking once a second in case a hint was lost."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable

from starlette.responses import Response

from services.gateway import present, schemas
from services.gateway.routes.deps import no_such_claim
from services.gateway.runtime import Runtime

LONGEST_WAIT_S = 60
_LOOK_AGAIN_S = 1.0
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*(\d{1,9})")


def preferred_wait(prefer: str | None) -> int | None:
    """Seconds from `Prefer: wait=N` (RFC 7240, section 4.3), at most a minute; None where it is not asked for."""
    found = _WAIT.search(prefer or "")
    return min(int(found[1]), LONGEST_WAIT_S) if found else None


async def wait_for(
    runtime: Runtime, claim_id: str, seconds: float, enough: Callable[[schemas.Claim], bool]
) -> schemas.Claim:
    """The claim as soon as it is `enough`, or as it is after `seconds`. Raises NotFound."""
    ends = asyncio.get_running_loop().time() + seconds
    with runtime.signals.subscribe(claim_id) as changed:
        while True:
            changed.clear()  # before looking: a change after the look wakes us
            claim = await current(runtime, claim_id)
            left = ends - asyncio.get_running_loop().time()
            if left <= 0 or enough(claim):
                return claim
            try:
                await asyncio.wait_for(changed.wait(), min(left, _LOOK_AGAIN_S))
            except TimeoutError:
                continue


async def current(runtime: Runtime, claim_id: str) -> schemas.Claim:
    row = await runtime.claims.load(claim_id)
    if row is None:
        raise no_such_claim()
    place = await runtime.claims.place(claim_id) if row.status == "queued" else None
    return present.claim(row, place=place)


def final(claim: schemas.Claim) -> bool:
    return claim.status in present.FINAL


def etag(claim: schemas.Claim) -> str:
    return f'"{hashlib.sha256(claim.model_dump_json().encode()).hexdigest()[:32]}"'


def respond(claim: schemas.Claim, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The claim with its ETag, and while it is not final with the time to ask again."""
    sent = {"ETag": etag(claim), "Cache-Control": "private, no-cache", **(headers or {})}
    if not final(claim):
        sent["Retry-After"] = "1"
    return Response(claim.model_dump_json(), status, sent, media_type="application/json")
