"""The queue's promises, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from redis import Redis

from services.common.jobs.connection import asking, listening
from services.common.jobs.payload import CLAIMS, ClaimJob
from services.common.jobs.queue import JobQueue
from services.common.jobs.signals import Signals, end_of
from services.common.jobs.turns import Share
from services.common.jobs.worker import GiveWay, Handler, JobWorker, Later, Turn
from services.common.serving.errors import NotReady, QueueFull


@asynccontextmanager
async def queue(redis_url: str, limit: int = 100, attempts: int = 5) -> AsyncIterator[JobQueue]:
    opened = JobQueue(asking(redis_url), CLAIMS, limit=limit, attempts=attempts)
    try:
        yield opened
    finally:
        await opened.close()


@asynccontextmanager
async def worker(
    redis_url: str, handler: Handler, dead: list[tuple[str, str]] | None = None, *, lock_seconds: float = 2
) -> AsyncIterator[JobWorker]:
    async def on_dead(data: dict[str, str], reason: str) -> None:
        if dead is not None:
            dead.append((data["claim_id"], reason))

    running = JobWorker(redis_url, CLAIMS, handler, on_dead, lock_seconds=lock_seconds)
    task = asyncio.create_task(running.run())
    try:
        yield running
    finally:
        await running.stop(grace_seconds=2)
        await task


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition lies in another process
            await asyncio.sleep(0.01)


async def test_a_job_reaches_a_worker_with_its_payload(redis_url: str) -> None:
    seen: list[ClaimJob] = []

    async def handle(data: dict[str, str], turn: Turn) -> None:
        seen.append(ClaimJob.from_json(data))

    async with queue(redis_url) as jobs, worker(redis_url, handle):
        await jobs.add("clm_1", ClaimJob("clm_1").to_json())
        await until(lambda: bool(seen))
    assert seen == [ClaimJob("clm_1")]


async def test_the_same_id_is_queued_once(redis_url: str) -> None:
    async with queue(redis_url) as jobs:
        for _ in range(3):
            await jobs.add("clm_1", ClaimJob("clm_1").to_json())
        assert await jobs.depth() == 1
        assert await jobs.state("clm_1") == "prioritized"
        assert await jobs.state("clm_2") == "unknown"


async def test_a_full_queue_says_so_and_counts_uploads_that_are_still_arriving(redis_url: str) -> None:
    async with queue(redis_url, limit=2) as jobs:
        await jobs.add("clm_1", ClaimJob("clm_1").to_json())
        async with jobs.room():
            with pytest.raises(QueueFull):
                async with jobs.room():
                    pass
        async with jobs.room():
            pass


async def test_a_failing_job_is_tried_again_and_reported_dead_only_at_the_end(redis_url: str) -> None:
    tries: list[str] = []
    dead: list[tuple[str, str]] = []

    async def handle(data: dict[str, str], turn: Turn) -> None:
        tries.append(data["claim_id"])
        raise RuntimeError("broken")

    async with queue(redis_url, attempts=2) as jobs, worker(redis_url, handle, dead):
        await jobs.add("clm_1", ClaimJob("clm_1").to_json())
        await until(lambda: bool(dead))
    assert len(tries) == 2
    assert dead == [("clm_1", "broken")]


async def test_a_job_put_off_comes_back_without_losing_an_attempt(redis_url: str) -> None:
    tries: list[str] = []

    async def handle(data: dict[str, str], turn: Turn) -> None:
        tries.append(data["claim_id"])
        if len(tries) < 3:
            raise Later(0.05, "the classifier is starting")

    dead: list[tuple[str, str]] = []
    async with queue(redis_url, attempts=1) as jobs, worker(redis_url, handle, dead):
        await jobs.add("clm_1", ClaimJob("clm_1").to_json())
        await until(lambda: len(tries) == 3)
    assert dead == []


async def test_a_lost_server_is_a_clear_error_and_not_a_hanging_request() -> None:
    async with queue("redis://127.0.0.1:9") as jobs:
        with pytest.raises(NotReady):
            await jobs.depth()
        with pytest.raises(NotReady):
            await jobs.add("clm_1", {})


async def test_stopping_lets_a_running_job_finish(redis_url: str) -> None:
    started, done = asyncio.Event(), asyncio.Event()

    async def handle(data: dict[str, str], turn: Turn) -> None:
        started.set()
        await asyncio.sleep(0.3)
        done.set()

    async with queue(redis_url) as jobs, worker(redis_url, handle) as running:
        await jobs.add("clm_1", ClaimJob("clm_1").to_json())
        await started.wait()
        await running.stop(grace_seconds=5)
        assert done.is_set()


async def test_stopping_does_not_wait_for_a_job_that_hangs_and_gives_it_back(redis_url: str) -> None:
    started = asyncio.Event()

    async def handle(data: dict[str, str], turn: Turn) -> None:
        started.set()
        await asyncio.sleep(3600)

    async with queue(redis_url) as jobs, worker(redis_url, handle) as running:
        await jobs.add("clm_1", ClaimJob("clm_1").to_json())
        await started.wait()
        async with asyncio.timeout(60):
            await running.stop(grace_seconds=0.2)
        assert await jobs.state("clm_1") in ("delayed", "waiting", "prioritized")  # the next worker takes it at once


async def test_a_worker_goes_on_after_the_server_forgot_everything(redis_url: str) -> None:
    seen: list[str] = []

    async def handle(data: dict[str, str], turn: Turn) -> None:
        seen.append(data["claim_id"])

    async with queue(redis_url) as jobs, worker(redis_url, handle):
        await jobs.add("clm_1", ClaimJob("clm_1").to_json())
        await until(lambda: "clm_1" in seen)
        with Redis.from_url(redis_url) as client:
            client.flushall()
        await jobs.add("clm_2", ClaimJob("clm_2").to_json())
        await until(lambda: "clm_2" in seen)


async def test_a_published_change_wakes_whoever_waits_for_it(redis_url: str) -> None:
    signals = Signals(asking(redis_url), listening(redis_url))
    try:
        with signals.subscribe("clm_1") as mine, signals.subscribe("clm_2") as other:
            async with asyncio.timeout(60):
                while not mine.is_set():  # what is published before the subscription stands is lost
                    await signals.publish("clm_1")
                    await asyncio.sleep(0.02)
            assert not other.is_set()
    finally:
        await signals.close()


async def test_who_waits_in_the_same_process_is_woken_without_the_server() -> None:
    signals = Signals(asking("redis://127.0.0.1:1"), listening("redis://127.0.0.1:1"))
    try:
        with signals.subscribe(end_of("clm_1")) as end, signals.subscribe("clm_1") as news:
            await signals.publish("clm_1")
            assert news.is_set() and not end.is_set()
            await signals.publish("clm_1", ended=True)
            assert end.is_set()
    finally:
        await signals.close()


async def test_a_claim_of_a_flooded_queue_is_taken_next_when_another_tenant_sent_it(redis_url: str) -> None:
    async with queue(redis_url) as jobs:
        await put(jobs, "noisy", 20)
        await put(jobs, "quiet", 1)
        assert (await order(redis_url, 21)).index("quiet-0") == 1


async def test_two_tenants_that_flood_are_served_in_turns_however_late_one_of_them_began(redis_url: str) -> None:
    async with queue(redis_url) as jobs:
        await put(jobs, "first", 10)
        await put(jobs, "second", 10)
        tenants = [name.partition("-")[0] for name in await order(redis_url, 20)]
    assert all({*pair} == {"first", "second"} for pair in zip(tenants[::2], tenants[1::2], strict=True))


async def test_a_tenant_with_large_claims_gets_no_more_photos_than_one_with_small_ones(redis_url: str) -> None:
    async with queue(redis_url) as jobs:
        await put(jobs, "large", 3, photos=10)
        await put(jobs, "small", 30)
        names = await order(redis_url, 33)
    small_ones_before = [sum(name.startswith("small") for name in names[: names.index(f"large-{n}")]) for n in (1, 2)]
    assert all(abs(before - 10 * n) <= 1 for n, before in enumerate(small_ones_before, 1))


async def test_interactive_work_comes_before_every_batch(redis_url: str) -> None:
    async with queue(redis_url) as jobs:
        await put(jobs, "bulk", 5, batch=True)
        await put(jobs, "person", 3)
        names = await order(redis_url, 8)
    assert [name.partition("-")[0] for name in names] == ["person"] * 3 + ["bulk"] * 5


async def test_a_batch_takes_no_room_from_interactive_work(redis_url: str) -> None:
    async with queue(redis_url, limit=2) as jobs:
        await put(jobs, "bulk", 5, batch=True)
        async with jobs.room():
            pass
        await put(jobs, "person", 2)
        with pytest.raises(QueueFull):
            async with jobs.room():
                pass


async def test_a_large_claim_gives_way_between_two_photos_and_goes_on_where_it_was(redis_url: str) -> None:
    """Ten photos of one tenant are being worked on when another's claim comes: it waits for one photo, not for ten."""
    log: list[str] = []
    done = 0
    reached = asyncio.Event()

    async def handle(data: dict[str, str], turn: Turn) -> None:
        nonlocal done
        name = data["claim_id"]
        if name == "quiet-0":
            log.append(name)
            return
        while done < 10:
            log.append(name)
            done += 1
            if done == 3:
                reached.set()
                await arrived.wait()
            if await turn.ended():
                raise GiveWay

    arrived = asyncio.Event()
    async with queue(redis_url) as jobs, worker(redis_url, handle):
        await put(jobs, "noisy", 1, photos=10)
        await reached.wait()
        await put(jobs, "quiet", 1)
        arrived.set()
        await until(lambda: len(log) == 11)
    assert log == ["noisy-0"] * 3 + ["quiet-0"] + ["noisy-0"] * 7


async def test_a_job_that_runs_longer_than_its_lock_is_never_taken_for_a_dead_workers(redis_url: str) -> None:
    runs: list[str] = []

    async def handle(data: dict[str, str], turn: Turn) -> None:
        runs.append(data["claim_id"])
        await asyncio.sleep(7)

    # It is renewed after half its time: what keeps this process from running for the other half looks like its death.
    async with (
        queue(redis_url) as jobs,
        worker(redis_url, handle, lock_seconds=3),
        worker(redis_url, handle, lock_seconds=3),
    ):
        await put(jobs, "slow", 1)
        async with asyncio.timeout(60):
            while not runs or await jobs.state("slow-0") != "unknown":  # noqa: ASYNC110 - finished and forgotten
                await asyncio.sleep(0.05)
    assert runs == ["slow-0"]


async def put(jobs: JobQueue, tenant: str, count: int, photos: int = 1, batch: bool = False) -> None:
    for number in range(count):
        name = f"{tenant}-{number}"
        await jobs.add(name, ClaimJob(name).to_json(), Share(tenant, photos, batch))


async def order(redis_url: str, count: int) -> list[str]:
    """The jobs in the order in which a worker takes them, one at a time."""
    names: list[str] = []

    async def handle(data: dict[str, str], turn: Turn) -> None:
        names.append(data["claim_id"])

    async with worker(redis_url, handle):
        await until(lambda: len(names) == count)
    return names
