"""Clients of a soak: they send claims, come back when they are told to, and wait for every end."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx2

from tests.unit.gateway.pictures import BLUE, RED, photo

_PHOTOS = [photo(RED), photo(RED, BLUE)]  # one finding each
_ENDS = ("succeeded", "failed", "canceled", "expired")


@dataclass
class Client:
    """What one client saw. `refused` counts answers by status; a refusal without Retry-After is `rude`."""

    http: httpx2.AsyncClient
    photos: int = 2
    deadline_s: int | None = None
    accepted: list[str] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    rude: int = 0
    broken: int = 0

    async def send_once(self) -> str | None:
        """The claim's id, or None where it was refused. A connection that breaks counts as broken."""
        # Bytes after a photo's end show nothing, and make it one that nobody has looked at yet.
        photos = [_PHOTOS[number % 2] + os.urandom(8) for number in range(self.photos)]
        files = [("photos", (f"{number}.jpg", data)) for number, data in enumerate(photos)]
        fields = {"deadline_seconds": str(self.deadline_s)} if self.deadline_s else {}
        try:
            answer = await self.http.post("/v1/claims", files=files, data=fields)
        except httpx2.TransportError:
            self.broken += 1
            return None
        if answer.status_code == 202:
            claim_id = str(answer.json()["id"])
            self.accepted.append(claim_id)
            return claim_id
        self.refused[answer.status_code] += 1
        self.rude += "retry-after" not in answer.headers
        self._told = float(answer.headers.get("retry-after", 1))
        return None

    async def send(self) -> str:
        """Send until it is accepted, waiting as long as each refusal says."""
        while True:
            claim_id = await self.send_once()
            if claim_id is not None:
                return claim_id
            await asyncio.sleep(min(self._told, 5))

    async def end(self, claim_id: str, patience_s: float = 300) -> dict[str, object]:
        """The claim once it is final."""
        ends = time.monotonic() + patience_s
        while time.monotonic() < ends:
            try:
                answer = await self.http.get(f"/v1/claims/{claim_id}", params={"wait": 20})
            except httpx2.TransportError:
                await asyncio.sleep(0.5)
                continue
            if answer.status_code == 200 and answer.json()["status"] in _ENDS:
                claim: dict[str, object] = answer.json()
                return claim
            if answer.status_code != 200:
                await asyncio.sleep(1)
        raise AssertionError(f"{claim_id} did not end within {patience_s:g} s")

    _told: float = 1.0


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed; NaN of nothing."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, -int(-share * len(ordered) // 1) - 1))]
