"""The queue's promises, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from redis import Redis

from services.common.jobs.connection import asking, listening
from services.common.jobs.payload import CLAIMS, ClaimJob
from services.common.jobs.queue import JobQueue
from services.common.jobs.signals import Signals
from services.common.jobs.worker import JobWorker, Later
from services.common.serving.errors import NotReady, QueueFull

Handler = Callable[[dict[str, str]], Awaitable[None]]


@asynccontextmanager
async def queue(url: str, limit: int = 100, attempts: int = 5) -> AsyncIterator[JobQueue]:
    opened = JobQueue(asking(url), CLAIMS, limit=limit, attempts=attempts)
    try:
        yield opened
    finally:
        await opened.close()


@asynccontextmanager
async def worker(url: str, handler: Handler, dead: list[tuple[str, str]] | None = None) -> AsyncIterator[JobWorker]:
    async def on_dead(data: dict[str, str], reason: str) -> None:
        if dead is not None:
            dead.append((data["claim_id"], reason))

    running = JobWorker(url, CLAIMS, handler, on_dead, lock_seconds=2)
    task = asyncio.create_task(running.run())
    try:
        yield running
    finally:
        await running.stop(grace_seconds=2)
        await task


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition lies in another process
            await asyncio.sleep(0.01)


async def test_a_job_reaches_a_worker_with_its_payload(url: str) -> None:
    seen: list[ClaimJob] = []

    async def handle(data: dict[str, str]) -> None:
        seen.append(ClaimJob.from_json(data))

    async with queue(url) as jobs, worker(url, handle):
        await jobs.add("clm_1", ClaimJob("clm_1").to_json())
        await until(lambda: bool(seen))
    assert seen == [ClaimJob("clm_1")]


async def test_the_same_id_is_queued_once(url: str) -> None:
    async with queue(url) as jobs:
        for _ in range(3):
            await jobs.add("clm_1", ClaimJob("clm_1").to_json())
        assert await jobs.depth() == 1
        assert await jobs.state("clm_1") == "waiting"
        assert await jobs.state("clm_2") == "unknown"


async def test_a_full_queue_says_so_and_counts_uploads_that_are_still_arriving(url: str) -> None:
    async with queue(url, limit=2) as jobs:
        await jobs.add("clm_1", ClaimJob("clm_1").to_json())
        async with jobs.room():
            with pytest.raises(QueueFull):
                async with jobs.room():
                    pass
        async with jobs.room():
            pass


async def test_a_failing_job_is_tried_again_and_reported_dead_only_at_the_end(url: str) -> None:
    tries: list[str] = []
    dead: list[tuple[str, str]] = []

    async def handle(data: dict[str, str]) -> None:
        tries.append(data["claim_id"])
        raise RuntimeError("broken")

    async with queue(url, attempts=2) as jobs, worker(url, handle, dead):
        await jobs.add("clm_1", ClaimJob("clm_1").to_json())
        await until(lambda: bool(dead))
    assert len(tries) == 2
    assert dead == [("clm_1", "broken")]


async def test_a_job_put_off_comes_back_without_losing_an_attempt(url: str) -> None:
    tries: list[str] = []

    async def handle(data: dict[str, str]) -> None:
        tries.append(data["claim_id"])
        if len(tries) < 3:
            raise Later(0.05, "the classifier is starting")

    dead: list[tuple[str, str]] = []
    async with queue(url, attempts=1) as jobs, worker(url, handle, dead):
        await jobs.add("clm_1", ClaimJob("clm_1").to_json())
        await until(lambda: len(tries) == 3)
    assert dead == []


async def test_a_lost_server_is_a_clear_error_and_not_a_hanging_request() -> None:
    async with queue("redis://127.0.0.1:9") as jobs:
        with pytest.raises(NotReady):
            await jobs.depth()
        with pytest.raises(NotReady):
            await jobs.add("clm_1", {})


async def test_stopping_lets_a_running_job_finish(url: str) -> None:
    started, done = asyncio.Event(), asyncio.Event()

    async def handle(data: dict[str, str]) -> None:
        started.set()
        await asyncio.sleep(0.3)
        done.set()

    async with queue(url) as jobs, worker(url, handle) as running:
        await jobs.add("clm_1", ClaimJob("clm_1").to_json())
        await started.wait()
        await running.stop(grace_seconds=5)
        assert done.is_set()


async def test_stopping_does_not_wait_for_a_job_that_hangs(url: str) -> None:
    started = asyncio.Event()

    async def handle(data: dict[str, str]) -> None:
        started.set()
        await asyncio.sleep(3600)

    async with queue(url) as jobs, worker(url, handle) as running:
        await jobs.add("clm_1", ClaimJob("clm_1").to_json())
        await started.wait()
        async with asyncio.timeout(5):
            await running.stop(grace_seconds=0.2)
        assert await jobs.state("clm_1") == "active"  # until its lock runs out and another worker takes it


async def test_a_worker_goes_on_after_the_server_forgot_everything(url: str) -> None:
    seen: list[str] = []

    async def handle(data: dict[str, str]) -> None:
        seen.append(data["claim_id"])

    async with queue(url) as jobs, worker(url, handle):
        await jobs.add("clm_1", ClaimJob("clm_1").to_json())
        await until(lambda: "clm_1" in seen)
        with Redis.from_url(url) as client:
            client.flushall()
        await jobs.add("clm_2", ClaimJob("clm_2").to_json())
        await until(lambda: "clm_2" in seen)


async def test_a_published_change_wakes_whoever_waits_for_it(url: str) -> None:
    signals = Signals(asking(url), listening(url))
    try:
        with signals.subscribe("clm_1") as mine, signals.subscribe("clm_2") as other:
            await asyncio.sleep(0.2)  # until the subscription stands
            await signals.publish("clm_1")
            await asyncio.wait_for(mine.wait(), 2)
            assert not other.is_set()
    finally:
        await signals.close()
