"""A tenant's share of this service: requests a minute, photos a day, claims at once.

Requests are counted in this process's memory: it is this process that they would burden, and a shared counter would
put a round trip into every poll. Photos and claims are counted in the records, over all processes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from pydantic import BaseModel, ConfigDict, Field

from services.common.serving.errors import RateLimited
from services.gateway.callers import Caller

_WINDOW_S = 60


class Quota(BaseModel):
    """What one tenant may use; 0 is no bound."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_minute: int = Field(6000, ge=0)
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

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def take(self, caller: Caller) -> dict[str, str]:
        """Count one request and answer the headers that tell the caller where it stands.

        Field names and form: draft-ietf-httpapi-ratelimit-headers-10. Raises RateLimited.
        """
        quota = self._quotas.of(caller).requests_per_minute
        if not quota:
            return {}
        item = RateLimitItemPerMinute(quota)
        accepted = await self._limiter.hit(item, caller.tenant)
        stats = await self._limiter.get_window_stats(item, caller.tenant)
        wait_s = max(1, math.ceil(stats.reset_time - time.time()))
        headers = {
            "RateLimit-Policy": f'"requests";q={quota};w={_WINDOW_S}',
            "RateLimit": f'"requests";r={stats.remaining};t={wait_s}',
        }
        if not accepted:
            problem = RateLimited(f"{quota} requests a minute are this tenant's share.", retry_after=wait_s)
            problem.headers = headers
            raise problem
        return headers
