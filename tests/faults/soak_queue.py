"""The queue server is stopped for half a minute, and another time forgets everything, while claims keep coming."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx2

from tests.faults.clients import Client
from tests.faults.house import House

_RATE = 5  # claims a second that clients try to send


@dataclass
class Health:
    """What the probes said while the queue was away."""

    live: Counter[int] = field(default_factory=Counter)
    ready: Counter[int] = field(default_factory=Counter)
    slowest_live_s: float = 0.0


async def soak(house: House, *, away_s: float, around_s: float) -> dict[str, object]:
    """Under load all the time: `around_s`, stopped for `away_s`, `around_s` again, wiped, and `around_s` once more."""
    async with httpx2.AsyncClient(base_url=house.url, timeout=60, trust_env=False) as http:
        client = Client(http)
        sending = asyncio.create_task(_send(client))
        health = Health()
        await asyncio.sleep(around_s)
        await asyncio.to_thread(house.queue.stop)
        before = Counter(client.refused)
        await _probe(http, health, away_s)
        async with asyncio.timeout(60):
            while not (refused := client.refused - before):  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # on a busy machine even a refusal takes its time
        await asyncio.to_thread(house.queue.start)
        back = time.monotonic()
        await asyncio.sleep(around_s)
        accepted_before_wipe = len(client.accepted)
        await asyncio.to_thread(house.queue.wipe)
        await asyncio.sleep(around_s)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        ended = await asyncio.gather(*(client.end(claim_id) for claim_id in client.accepted))
        return {
            "accepted": len(client.accepted),
            "of them before the wipe": accepted_before_wipe,
            "final states": dict(Counter(str(claim["status"]) for claim in ended)),
            "errors": sorted({str(claim["error"]) for claim in ended if claim["error"]}),
            "answers to submissions while it was away": dict(refused),
            "refusals without Retry-After": client.rude,
            "connections that broke": client.broken,
            "live while away": dict(health.live),
            "slowest live answer s": round(health.slowest_live_s, 3),
            "ready while away": dict(health.ready),
            "all finished after it came back, s": round(time.monotonic() - back, 1),
        }


async def _send(client: Client) -> None:
    """Until it is cancelled; what is on its way then still arrives."""
    async with asyncio.TaskGroup() as group:
        on_its_way: set[asyncio.Task[str | None]] = set()
        try:
            while True:
                task = group.create_task(client.send_once())
                on_its_way.add(task)
                task.add_done_callback(on_its_way.discard)
                await asyncio.sleep(1 / _RATE)
        except asyncio.CancelledError:
            if on_its_way:
                await asyncio.wait(on_its_way)


async def _probe(http: httpx2.AsyncClient, health: Health, seconds: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        begun = time.monotonic()
        health.live[(await http.get("/health/live")).status_code] += 1
        health.slowest_live_s = max(health.slowest_live_s, time.monotonic() - begun)
        health.ready[(await http.get("/health/ready")).status_code] += 1
        await asyncio.sleep(0.5)
