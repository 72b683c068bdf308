"""Waiting for a claim, and answering with it: woken by change hints, looking once a second in case a hint was lost.

Only a claim's state is looked at; the claim with its photos is loaded and drawn when there is something new to answer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress

from starlette.responses import Response

import services
from services.common.jobs.signals import end_of
from services.gateway import present, schemas
from services.gateway.records import models
from services.gateway.records.states import State
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


async def look(runtime: Runtime, claim_id: str) -> State:
    """How far the claim is. Raises NotFound."""
    state = await runtime.states.of(claim_id)
    if state is None:
        runtime.drawn.forget(claim_id)
        raise no_such_claim()
    return state


async def wait_for_end(runtime: Runtime, claim_id: str, seconds: float) -> State:
    """The claim's state once it is final, or as it is after `seconds`. Raises NotFound."""
    return await _wait(runtime, claim_id, end_of(claim_id), seconds, final)


async def wait_for_news(runtime: Runtime, claim_id: str, seconds: float, known: set[str]) -> State:
    """The claim's state as soon as its ETag is none of `known`, or as it is after `seconds`. Raises NotFound."""
    return await _wait(runtime, claim_id, claim_id, seconds, lambda state: etag(state) not in known)


async def _wait(runtime: Runtime, claim_id: str, key: str, seconds: float, enough: Callable[[State], bool]) -> State:
    """The state as soon as it is `enough`, or as it is after `seconds`. What is published for `key` wakes us."""
    ends = asyncio.get_running_loop().time() + seconds
    with runtime.signals.subscribe(key) as changed:
        while True:
            changed.clear()  # before looking: a change after the look wakes us
            state = await look(runtime, claim_id)
            left = ends - asyncio.get_running_loop().time()
            if left <= 0 or enough(state) or runtime.signals.ending:
                return state
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), min(left, _LOOK_AGAIN_S))


async def current(runtime: Runtime, claim_id: str) -> schemas.Claim:
    """The claim with its photos and findings. Raises NotFound."""
    return (await _load(runtime, claim_id, await look(runtime, claim_id)))[0]


def final(known: State | schemas.Claim) -> bool:
    return known.status in present.FINAL


def etag(state: State) -> str:
    """Names what a claim in this state looks like, as this version of the software shows it."""
    place = "" if state.place is None else f".{state.place}"
    return f'"{services.VERSION}.{state.version}{place}"'


async def respond(
    runtime: Runtime,
    claim_id: str,
    state: State,
    status: int = 200,
    headers: dict[str, str] | None = None,
    *,
    known: models.Claim | None = None,
) -> Response:
    """The claim with its ETag, and while it is not final with the time after which it is worth asking again.

    It is not loaded where `known` is it in this state.
    """
    body = runtime.drawn.get(claim_id, etag(state))
    if body is None:
        claim, state = await _load(runtime, claim_id, state, known)
        body = claim.model_dump_json().encode()
        runtime.drawn.put(claim_id, etag(state), body)
    sent = {"ETag": etag(state), "Cache-Control": "private, no-cache", **(headers or {})}
    if not final(state):
        wait_s = await runtime.drain.seconds(state.place) if state.place else 1
        sent["Retry-After"] = str(min(LONGEST_WAIT_S, wait_s))
    return Response(body, status, sent, media_type="application/json")


async def _load(
    runtime: Runtime, claim_id: str, seen: State, known: models.Claim | None = None
) -> tuple[schemas.Claim, State]:
    """The claim and the state that it shows, which may be a later one than was `seen`."""
    row = known if known and known.version == seen.version else await runtime.claims.load(claim_id)
    if row is None:
        raise no_such_claim()
    place = seen.place if row.status == "queued" else None
    return present.claim(row, place=place), State(row.status, row.version, place)
