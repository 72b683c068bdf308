"""Whether one more claim is taken: 429 where the caller has used up its share, 503 where the service is full."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from services.common.serving.errors import QueueFull, RateLimited
from services.gateway.callers import Caller
from services.gateway.records.clock import now_ms, to_datetime
from services.gateway.records.usage import Bounds, OverQuota, today
from services.gateway.runtime import Runtime

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
