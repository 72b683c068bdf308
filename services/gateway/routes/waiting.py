"""Waiting for a claim: woken by change hints, and looking once a second in case a hint was lost."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Container
from contextlib import suppress

from starlette.responses import Response

from services.common.jobs.signals import end_of
from services.gateway import present, schemas
from services.gateway.routes.deps import no_such_claim
from services.gateway.runtime import Runtime

LONGEST_WAIT_S = 60
HEADERS = {  # of every answer with a claim, for OpenAPI
    "ETag": {"description": "Names this state of the claim", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds; while the claim is not final", "schema": {"type": "integer"}},
}
_LOOK_AGAIN_S = 1.0
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})", re.IGNORECASE)  # a word may be quoted: RFC 7240, section 2


def preferred_wait(prefer: str | None) -> int | None:
    """Seconds from `Prefer: wait=N` (RFC 7240, section 4.3), at most a minute; None where it is not asked for."""
    found = _WAIT.search(prefer or "")
    return min(int(found[1]), LONGEST_WAIT_S) if found else None


async def wait_for(
    runtime: Runtime, claim_id: str, key: str, seconds: float, enough: Callable[[], Awaitable[bool]]
) -> schemas.Claim:
    """The claim as soon as it is `enough`, or as it is after `seconds`. Raises NotFound. `key` wakes for a look."""
    ends = asyncio.get_running_loop().time() + seconds
    with runtime.signals.subscribe(key) as changed:
        while (left := ends - asyncio.get_running_loop().time()) > 0 and not runtime.signals.ending:
            changed.clear()  # before looking: a change after the look wakes us
            if await enough():
                break
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), min(left, _LOOK_AGAIN_S))
    return await current(runtime, claim_id)


async def wait_for_end(runtime: Runtime, claim_id: str, seconds: float) -> schemas.Claim:
    """The claim once it is final, or as it is after `seconds`. Raises NotFound.

    Meanwhile only its status is read: loading a claim with its photos costs four times as much.
    """

    async def ended() -> bool:
        status = await runtime.claims.status(claim_id)
        return status is None or status in present.FINAL

    return await wait_for(runtime, claim_id, end_of(claim_id), seconds, ended)


async def wait_for_news(runtime: Runtime, claim_id: str, seconds: float, known: Container[str]) -> schemas.Claim:
    """The claim as soon as its ETag is none of `known`, or as it is after `seconds`. Raises NotFound."""

    async def changed() -> bool:
        return etag(await current(runtime, claim_id)) not in known

    return await wait_for(runtime, claim_id, claim_id, seconds, changed)


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


async def respond(
    runtime: Runtime, claim: schemas.Claim, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """The claim with its ETag, and while it is not final with the time after which it is worth asking again."""
    sent = {"ETag": etag(claim), "Cache-Control": "private, no-cache", **(headers or {})}
    if not final(claim):
        before = claim.queue.position if claim.queue else 0
        sent["Retry-After"] = str(min(LONGEST_WAIT_S, await runtime.drain.seconds(before)) if before else 1)
    return Response(claim.model_dump_json(), status, sent, media_type="application/json")
