"""Whether one more claim is taken: 429 where the caller has used up its share, 503 where the service is full."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from services.common.serving.errors import QueueFull, RateLimited
from services.gateway.callers import Caller
from services.gateway.records.clock import now_ms, to_datetime
from services.gateway.records.usage import Bounds, OverQuota, today
from services.gateway.runtime import Runtime

_SURE = 0.7  # of a deadline: the rate is a mean, and half of all claims take longer than it says
_LONGEST_S = 300
_TENTH = 10  # come back when a tenth of the queue is free: at the first free place everybody would be too late but one


@asynccontextmanager
async def admitted(runtime: Runtime, caller: Caller, *, new_claim: bool = True) -> AsyncIterator[Bounds]:
    """Hold a place in the queue while an upload is read, and answer the bounds with which to accept it.

    Raises RateLimited and QueueFull, before a byte of the upload is read, with a Retry-After that was measured. What
    is accepted inside is held to the bounds once more, by the records, where simultaneous uploads cannot pass both.
    """
    quota = runtime.quotas.of(caller)
    bounds = Bounds(quota.photos_per_day, quota.open_claims)
    try:
        if bounds.photos_per_day:
            sent = await runtime.usage.since(caller.tenant, today())
            if sent.photos >= bounds.photos_per_day:
                raise OverQuota("photos_per_day")
        if new_claim and bounds.open_claims and await runtime.usage.open_claims(caller.tenant) >= bounds.open_claims:
            raise OverQuota("open_claims")
        async with runtime.queue.room():
            yield bounds
    except OverQuota as over:
        raise await _refusal(runtime, over, bounds) from None
    except QueueFull as full:
        full.retry_after = await runtime.drain.seconds(runtime.settings.max_queue // _TENTH + 1)
        raise


@asynccontextmanager
async def in_time(runtime: Runtime, caller: Caller, deadline_s: float) -> AsyncIterator[None]:
    """Hold a place in the tenant's line while a claim is accepted.

    Raises QueueFull where the claim would hardly be concluded within `deadline_s`, by the rate of the last minute: to
    take it and let it expire would cost its sender the time in which to do something else.
    """
    arriving = runtime.drain.arriving
    arriving[caller.tenant] += 1
    try:
        if deadline_s < runtime.settings.claim_deadline_seconds:  # the usual one is a day: nobody waits for that
            await _refuse_if_late(runtime, caller, deadline_s)
        yield
    finally:
        arriving[caller.tenant] -= 1


async def _refuse_if_late(runtime: Runtime, caller: Caller, deadline_s: float) -> None:
    before = runtime.drain.arriving[caller.tenant]  # this one among them
    needed_s = await runtime.drain.estimate(await runtime.usage.ahead(caller.tenant) + before)
    if needed_s > _SURE * deadline_s:
        wait_s = min(_LONGEST_S, math.ceil(needed_s - _SURE * deadline_s))
        raise QueueFull(
            f"A claim that is sent now takes about {needed_s:.0f} s, and its deadline is {deadline_s:g} s.",
            retry_after=wait_s,
        )


async def _refusal(runtime: Runtime, over: OverQuota, bounds: Bounds) -> RateLimited:
    if over.which == "photos_per_day":
        now = to_datetime(now_ms())
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        return RateLimited(
            f"This tenant's share is {bounds.photos_per_day} photos a day (UTC). GET /v1/usage shows what is left.",
            retry_after=max(1, int((midnight - now).total_seconds())),
        )
    return RateLimited(
        f"{bounds.open_claims} claims of this tenant are being worked on, which is its share. Wait for some of them.",
        retry_after=await runtime.drain.seconds(1),
    )
