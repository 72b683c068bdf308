"""Ten times more claims than can be worked on; and a tenant that floods, beside one that sends now and then."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from datetime import datetime
from typing import Any

import httpx2

from tests.faults.clients import Client, percentile
from tests.faults.house import House

_WARM_S = 10.0
_AT_ONCE = 12
_QUIET_EVERY_S = 2.0


async def soak(
    house: House, *, seconds: float, factor: float, deadline_s: float, key: str, other: str, least: float = 0
) -> dict[str, object]:
    """`key` and `other` are API keys of two tenants; the first one floods, with `least` claims a second or more."""
    async with _client(house, key) as noisy, _client(house, other) as quiet:
        await _started(house)
        rate = await _capacity(noisy)
        alone = [await _one(quiet) for _ in range(5)]
        alone_s = [_lasted(claim) for claim in alone]
        flood = Client(noisy, photos=1, deadline_s=round(deadline_s))
        beside: list[dict[str, Any]] = []
        visiting = asyncio.create_task(_visit(quiet, beside))
        offered = await _flood(flood, max(rate * factor, least), seconds)
        visiting.cancel()
        await asyncio.gather(visiting, return_exceptions=True)
        after_s = await _normal_again(noisy)
        ended = [await flood.end(claim_id) for claim_id in flood.accepted]
        waited = [_lasted(claim) for claim in ended]
        beside_s = [_lasted(claim) for claim in beside]
        return {
            "capacity, claims finished/s": round(rate, 2),
            "offered": offered,
            "offered claims/s": round(offered / seconds, 1),
            "accepted": len(flood.accepted),
            "refused by status": dict(flood.refused),
            "refusals without Retry-After": flood.rude,
            "connections that broke": flood.broken,
            "accepted: p50, p99, longest s": [round(percentile(waited, share), 2) for share in (0.5, 0.99, 1)],
            "deadline s": deadline_s,
            "accepted and late": sum(each > deadline_s for each in waited),
            "final states of the accepted": dict(Counter(str(claim["status"]) for claim in ended)),
            "a claim is taken again after s": round(after_s, 1),
            "other tenant alone: median, longest s": [round(percentile(alone_s, share), 2) for share in (0.5, 1)],
            "... of it until a worker began (median)": _queued(alone),
            "other tenant beside the flood: n, median, longest s": [
                len(beside), *(round(percentile(beside_s, share), 2) for share in (0.5, 1))
            ],
            "... of it until a worker began (median) ": _queued(beside),
            "other tenant, longer by (medians) s": round(percentile(beside_s, 0.5) - percentile(alone_s, 0.5), 2),
        }  # fmt: skip


def _client(house: House, key: str) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=200)
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.AsyncClient(base_url=house.url, timeout=60, trust_env=False, limits=limits, headers=headers)


async def _started(house: House) -> None:
    """Until every worker takes work: what starts meanwhile is no capacity."""
    for name in house.running:
        if name.startswith("worker"):
            await asyncio.to_thread(house.wait_until_up, name)


async def _capacity(http: httpx2.AsyncClient) -> float:
    """Claims a second that are finished while a few clients always have one under way, once the first was.

    Over `_WARM_S`, and on until enough are finished to tell.
    """
    client = Client(http, photos=1)
    await client.end(await client.send())
    begun, finished = time.monotonic(), 0

    async def one() -> None:
        nonlocal finished
        while True:
            await client.end(await client.send())
            finished += 1

    sending = [asyncio.create_task(one()) for _ in range(_AT_ONCE)]
    while time.monotonic() < begun + _WARM_S or finished < _AT_ONCE:
        failed, _ = await asyncio.wait(sending, timeout=0.1, return_when=asyncio.FIRST_EXCEPTION)
        for task in failed:
            task.result()
    rate = finished / (time.monotonic() - begun)
    for task in sending:
        task.cancel()
    await asyncio.gather(*sending, return_exceptions=True)
    await asyncio.gather(*(client.end(claim_id) for claim_id in client.accepted))
    return rate


async def _flood(client: Client, rate: float, seconds: float) -> int:
    """Poisson arrivals that do not wait for answers; answers how many there were."""
    chance, offered, tasks = random.Random(17), 0, set()
    due, ends = time.monotonic(), time.monotonic() + seconds
    while due < ends:
        if (wait := due - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(client.send_once())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        offered += 1
        due += chance.expovariate(rate)
    await asyncio.gather(*tasks)
    return offered


async def _visit(http: httpx2.AsyncClient, ended: list[dict[str, Any]]) -> None:
    await asyncio.sleep(_QUIET_EVERY_S)  # until the flood stands
    while True:
        ended.append(await _one(http))
        await asyncio.sleep(_QUIET_EVERY_S)


async def _one(http: httpx2.AsyncClient) -> dict[str, Any]:
    client = Client(http, photos=1)
    return await client.end(await client.send())


def _queued(claims: list[dict[str, Any]]) -> float:
    return round(percentile([claim["timings_ms"]["queue"] / 1000 for claim in claims], 0.5), 3)


async def _normal_again(http: httpx2.AsyncClient) -> float:
    """Seconds from the flood's end until a claim of the flooding tenant is taken again at the first try."""
    begun = time.monotonic()
    client = Client(http, photos=1)
    while await client.send_once() is None:  # noqa: ASYNC110 - the answer lies in another process
        await asyncio.sleep(0.1)
    return time.monotonic() - begun


def _lasted(claim: dict[str, object]) -> float:
    """Seconds from acceptance to the end, by the records' clock."""
    created, completed = (datetime.fromisoformat(str(claim[name])) for name in ("created_at", "completed_at"))
    return (completed - created).total_seconds()
