"""A tenant's share of this service: requests a minute, photos a day, claims at once.

Requests that change something are counted in Redis, over all processes. Those that only read are counted apart, in this
process's memory: it is this process that they burden, and a shared counter would cost a poll, 0.3 ms, 0.2 ms more.
Photos and claims are counted in the records.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from limits import RateLimitItem, RateLimitItemPerMinute, WindowStats
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from pydantic import BaseModel, ConfigDict, Field
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.common.jobs.connection import PREFIX
from services.common.serving.errors import RateLimited
from services.gateway.callers import Caller

_WINDOW_S = 60


class Quota(BaseModel):
    """What one tenant may use; 0 is no bound."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_minute: int = Field(6000, ge=0, description="that read, and as many that write")
    photos_per_day: int = Field(0, ge=0, description="UTC days")
    open_claims: int = Field(100, ge=0, description="accepted and not final, batches aside")


class Quotas:
    """Each tenant's quota: its own where it has one, else the common one."""

    def __init__(self, common: Quota, own: Mapping[str, Quota]) -> None:
        self._common = common
        self._own = own

    def of(self, caller: Caller) -> Quota:
        """Without keys there are no tenants that would have to share."""
        return Quota(requests_per_minute=0, open_claims=0) if caller.key_id is None else self.of_tenant(caller.tenant)

    def of_tenant(self, tenant: str) -> Quota:
        return self._own.get(tenant, self._common)


class Rates:
    """Counts requests over a sliding minute."""

    def __init__(self, quotas: Quotas, redis: Redis) -> None:
        self._quotas = quotas
        where: dict[str, Any] = {"connection_pool": redis.connection_pool}
        shared = RedisStorage("async+redis://", implementation="redispy", key_prefix=f"{PREFIX}:rates", **where)
        self._shared = SlidingWindowCounterRateLimiter(shared)
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def take(self, caller: Caller, *, reads: bool) -> dict[str, str]:
        """Count one request and answer the headers that tell the caller where it stands.

        Field names and form: draft-ietf-httpapi-ratelimit-headers-10. Raises RateLimited.
        """
        quota = self._quotas.of(caller).requests_per_minute
        if not quota:
            return {}
        kind = "reads" if reads else "writes"
        accepted, stats = await self._count(RateLimitItemPerMinute(quota), f"{caller.tenant}:{kind}", shared=not reads)
        wait_s = max(1, math.ceil(stats.reset_time - time.time()))
        headers = {
            "RateLimit-Policy": f'"{kind}";q={quota};w={_WINDOW_S}',
            "RateLimit": f'"{kind}";r={stats.remaining};t={wait_s}',
        }
        if not accepted:
            problem = RateLimited(f"{quota} {kind} a minute are this tenant's share.", retry_after=wait_s)
            problem.headers = headers
            raise problem
        return headers

    async def _count(self, item: RateLimitItem, name: str, *, shared: bool) -> tuple[bool, WindowStats]:
        if shared:
            with suppress(RedisError, OSError):  # then this process counts on alone: a lost Redis is no open door
                return await self._shared.hit(item, name), await self._shared.get_window_stats(item, name)
        return await self._own.hit(item, name), await self._own.get_window_stats(item, name)
