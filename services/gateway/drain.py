"""How fast claims are finished here, measured, and so when it is worth asking again."""

from __future__ import annotations

import math
import time
from collections import Counter

from sqlalchemy.exc import SQLAlchemyError

from services.gateway.records.usage import UsageStore

_WINDOW_S = 60
_REMEMBERED_S = 1.0
_UNKNOWN_S = 5  # nothing was finished in the last minute: nobody can say
_LONGEST_S = 300


class Drain:
    """Seconds until so many claims are done, by the rate of the last minute over all workers."""

    def __init__(self, usage: UsageStore) -> None:
        self._usage = usage
        self.arriving: Counter[str] = Counter()  # claims of each tenant that are about to be accepted here
        self._measured = (-_REMEMBERED_S, 0.0)

    async def seconds(self, claims: int) -> int:
        rate = await self._rate()
        return min(_LONGEST_S, max(1, math.ceil(claims / rate))) if rate else _UNKNOWN_S

    async def estimate(self, claims: int) -> float:
        """The same without rounding or bounds; 0 where nobody can say."""
        rate = await self._rate()
        return claims / rate if rate else 0.0

    async def _rate(self) -> float:
        """Claims a second; 0 where nothing is known."""
        at, rate = self._measured
        if time.monotonic() - at >= _REMEMBERED_S:
            try:
                rate = await self._usage.throughput(_WINDOW_S)
            except SQLAlchemyError:  # it only advises when to come back; what is really wrong is told elsewhere
                rate = 0.0
            self._measured = (time.monotonic(), rate)
        return rate
