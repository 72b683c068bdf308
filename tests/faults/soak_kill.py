"""kill -9 of a random worker or model service again and again, while claims run."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import httpx2

from tests.faults.clients import Client
from tests.faults.house import House
from tests.unit.gateway.receiver import Receiver, receiving

_CLIENTS = 24
_FIRST_S = 0.3  # until the first kill: claims are being worked on


@dataclass
class Seen:
    """What the killing did. `taken_over_s`: from the kill of a worker until another began its claim."""

    kills: Counter[str] = field(default_factory=Counter)
    taken_over_s: list[float] = field(default_factory=list)


async def soak(house: House, claims: int, *, seed: int, every_s: float | None = None) -> dict[str, object]:
    """Runs `claims` claims and answers what came of them; `every_s` None: three times a worker's measured restart."""
    async with (
        receiving() as receiver,
        httpx2.AsyncClient(base_url=house.url, timeout=60, trust_env=False) as http,
    ):
        (await http.post("/v1/webhooks", json={"url": receiver.url})).raise_for_status()
        seen = Seen()
        begun = time.monotonic()
        killing = asyncio.create_task(_kill(house, seen, random.Random(seed), every_s))
        try:
            ended, client = await _run(http, claims)
        finally:
            killing.cancel()
            await asyncio.gather(killing, return_exceptions=True)
        seconds = time.monotonic() - begun
        await _all_told(receiver, claims)
        told = _told(receiver)
        return {**_states(house, ended, client), **_kills(house, seen), **told, "seconds": round(seconds, 1)}


async def _run(http: httpx2.AsyncClient, claims: int) -> tuple[list[dict[str, object]], Client]:
    client = Client(http)
    left = iter(range(claims))

    async def one() -> list[dict[str, object]]:
        return [await client.end(await client.send()) for _ in left]

    ended = await asyncio.gather(*(one() for _ in range(min(_CLIENTS, claims))))
    return [claim for each in ended for claim in each], client


async def _kill(house: House, seen: Seen, chance: random.Random, every_s: float | None) -> None:
    names = [name for name in house.running if name != "gateway"]
    every_s = 3 * await _restart_s(house) if every_s is None else every_s
    await asyncio.sleep(_FIRST_S)
    while True:
        name = chance.choice(names)
        before = await asyncio.to_thread(_attempts, house)
        killed_at = time.monotonic()
        await asyncio.to_thread(house.kill, name)
        seen.kills[name.partition("-")[0]] += 1
        house.start(name)
        if name.startswith("worker"):
            watching = asyncio.create_task(_watch(house, seen, before, killed_at))
            watching.add_done_callback(lambda task: task.cancelled() or task.exception())
        # Whoever kills faster than the machine starts things is shown nothing: no work would ever be done.
        await asyncio.gather(asyncio.sleep(every_s), asyncio.to_thread(house.wait_until_up, name))


async def _restart_s(house: House) -> float:
    """How long a worker needs from nothing until it takes work, measured by killing one."""
    begun = time.monotonic()
    await asyncio.to_thread(house.kill, "worker-1")
    house.start("worker-1")
    await asyncio.to_thread(house.wait_until_up, "worker-1")
    return time.monotonic() - begun


def _attempts(house: House) -> dict[object, int]:
    rows = house.rows("SELECT id, attempt FROM claims WHERE status = 'processing'")
    return {row[0]: int(str(row[1])) for row in rows}


async def _watch(house: House, seen: Seen, before: dict[object, int], killed_at: float) -> None:
    """Which of the claims that ran at the kill were begun once more, and when."""
    while before and time.monotonic() - killed_at < 60:
        await asyncio.sleep(0.1)
        now = await asyncio.to_thread(_attempts, house)
        for claim_id, attempt in list(before.items()):
            if claim_id not in now:
                del before[claim_id]  # its worker lived and has finished it
            elif now[claim_id] > attempt:
                seen.taken_over_s.append(time.monotonic() - killed_at)
                del before[claim_id]


async def _all_told(receiver: Receiver, claims: int) -> None:
    """Until every claim's webhook has arrived, or it is too late: those that are missing are in the report.

    What a killed worker was about to send is sent by another one a minute later.
    """
    ends = time.monotonic() + 120
    while time.monotonic() < ends and len({got.headers["webhook-id"] for got in receiver.got}) < claims:  # noqa: ASYNC110
        await asyncio.sleep(0.2)


def _states(house: House, ended: list[dict[str, object]], client: Client) -> dict[str, object]:
    doubled = house.rows("SELECT photo_id FROM findings GROUP BY photo_id HAVING count(*) <> 1")
    photos = house.rows("SELECT id FROM photos WHERE status <> 'succeeded'")
    return {
        "claims": len(client.accepted),
        "final states": dict(Counter(str(claim["status"]) for claim in ended)),
        "errors": sorted({str(claim["error"]) for claim in ended if claim["error"]}),
        "lost": len(set(client.accepted) - {str(claim["id"]) for claim in ended}),
        "photos without exactly one finding": len(doubled) + len(photos),
        "refusals while full": dict(client.refused),
    }


def _kills(house: House, seen: Seen) -> dict[str, object]:
    return {
        "kills": dict(seen.kills),
        "attempts (sum, most)": house.rows("SELECT sum(attempt), max(attempt) FROM claims")[0],
        "taken over after s (n, median, longest)": _three(seen.taken_over_s),
    }


def _told(receiver: Receiver) -> dict[str, object]:
    events: defaultdict[str, set[str]] = defaultdict(set)
    for got in receiver.got:
        events[json.loads(got.body)["data"]["id"]].add(got.headers["webhook-id"])
    return {
        "webhooks received": len(receiver.got),
        "claims told": len(events),
        "claims told under more than one event id": sum(len(each) > 1 for each in events.values()),
    }


def _three(values: list[float]) -> tuple[int, float, float]:
    ordered = sorted(values) or [0.0]
    return len(values), round(ordered[len(ordered) // 2], 1), round(ordered[-1], 1)
