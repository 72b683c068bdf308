"""What the batcher promises: company when there is a queue, no harm from bad company, and an honest no when full."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from services.common.serving.batcher import Batcher
from services.common.serving.context import RequestContext, bound
from services.common.serving.errors import DeadlineExceeded, NotReady, Problem, QueueFull

POISON = 255


class Device:
    """Doubles its input; waits while `gate` is closed; breaks on poison."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self.threads: set[str] = set()

    def __call__(self, rows: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        self.batches.append(rows[:, 0].tolist())
        self.threads.add(threading.current_thread().name)
        self.began.release()
        assert self.gate.wait(60)
        if (rows == POISON).any():
            raise ValueError("poison")
        return {"twice": rows.astype(np.float32) * 2}

    async def busy(self) -> None:
        """Wait until a run has begun."""
        assert await asyncio.to_thread(self.began.acquire, True, 60)


def row(*values: int) -> NDArray[np.uint8]:
    return np.array([[value] for value in values], np.uint8)


@asynccontextmanager
async def batching(device: Device, *, max_rows: int = 4, capacity: int = 100) -> AsyncIterator[Batcher]:
    with ThreadPoolExecutor(1, thread_name_prefix="device") as thread:
        batcher = Batcher(device, service="test", max_rows=max_rows, capacity=capacity, device=thread)
        try:
            yield batcher
        finally:
            device.gate.set()
            await batcher.close()


async def waiting(batcher: Batcher, *items: NDArray[np.uint8]) -> list[asyncio.Task[Mapping[str, NDArray[np.float32]]]]:
    """Tasks that have put `items` into the queue, in order."""
    tasks = []
    for item in items:
        tasks.append(asyncio.create_task(batcher.submit(item)))
        await asyncio.sleep(0)  # the task runs up to its own first wait: its item is in the queue
    return tasks


async def occupy(batcher: Batcher, device: Device) -> asyncio.Task[Mapping[str, NDArray[np.float32]]]:
    """Keep the device at work until its gate opens."""
    device.gate.clear()
    task = asyncio.create_task(batcher.submit(row(0)))
    await device.busy()
    return task


async def test_nobody_waits_for_company() -> None:
    device = Device()
    async with batching(device) as batcher:
        assert (await batcher.submit(row(3)))["twice"].tolist() == [[6]]
    assert device.batches == [[3]]


async def test_what_queued_while_the_device_worked_runs_together_and_everyone_gets_their_own() -> None:
    device = Device()
    async with batching(device, max_rows=4) as batcher:
        first = await occupy(batcher, device)
        tasks = await waiting(batcher, row(1), row(2, 3), row(4), row(5))
        device.gate.set()
        answers = [(await task)["twice"].ravel().tolist() for task in tasks]
        await first
    assert answers == [[2], [4, 6], [8], [10]]
    assert device.batches == [[0], [1, 2, 3, 4], [5]]
    assert len(device.threads) == 1


async def test_an_item_larger_than_a_batch_runs_in_pieces_and_stays_in_order() -> None:
    device = Device()
    async with batching(device, max_rows=4) as batcher:
        answer = await batcher.submit(row(*range(10)))
    assert answer["twice"].ravel().tolist() == [2 * i for i in range(10)]
    assert [len(batch) for batch in device.batches] == [4, 4, 2]


async def test_one_bad_item_does_not_fail_its_batch() -> None:
    device = Device()
    async with batching(device) as batcher:
        first = await occupy(batcher, device)
        good, bad, also_good = await waiting(batcher, row(1), row(POISON), row(2))
        device.gate.set()
        assert (await good)["twice"].tolist() == [[2]]
        assert (await also_good)["twice"].tolist() == [[4]]
        with pytest.raises(Problem) as caught:
            await bad
        await first
        assert caught.value.status == 503 and "poison" not in caught.value.detail
        assert (await batcher.submit(row(9)))["twice"].tolist() == [[18]]
        assert batcher.failures == 0


async def test_failures_in_a_row_are_counted_until_one_run_succeeds() -> None:
    device = Device()
    async with batching(device) as batcher:
        for _ in range(3):
            with pytest.raises(Problem):
                await batcher.submit(row(POISON))
        assert batcher.failures == 3
        await batcher.submit(row(1))
        assert batcher.failures == 0


async def test_work_whose_caller_has_gone_never_reaches_the_device() -> None:
    device = Device()
    async with batching(device) as batcher:
        first = await occupy(batcher, device)
        leaver, stayer = await waiting(batcher, row(1), row(2))
        leaver.cancel()
        await asyncio.gather(leaver, return_exceptions=True)
        device.gate.set()
        await stayer
        await first
    assert device.batches == [[0], [2]]


async def test_work_past_its_deadline_is_answered_at_once_and_never_reaches_the_device() -> None:
    device = Device()
    async with batching(device) as batcher:
        first = await occupy(batcher, device)
        with bound(RequestContext("late", deadline=time.monotonic() + 0.05)), pytest.raises(DeadlineExceeded):
            await batcher.submit(row(1))
        assert not first.done()
        with bound(RequestContext("too late", deadline=time.monotonic() - 1)), pytest.raises(DeadlineExceeded):
            await batcher.submit(row(2))
        device.gate.set()
        await first
        await batcher.submit(row(3))
    assert device.batches == [[0], [3]]


async def test_a_full_queue_says_so_and_when_to_come_again() -> None:
    device = Device()
    async with batching(device, capacity=3) as batcher:
        first = await occupy(batcher, device)
        tasks = await waiting(batcher, row(1), row(2, 3))
        with pytest.raises(QueueFull) as caught:
            await batcher.submit(row(4))
        assert caught.value.status == 503
        assert caught.value.retry_after is not None and 1 <= caught.value.retry_after <= 60
        device.gate.set()
        await asyncio.gather(first, *tasks)
        assert (await batcher.submit(row(5)))["twice"].tolist() == [[10]]


async def test_an_item_larger_than_the_queue_is_taken_when_nobody_waits() -> None:
    device = Device()
    async with batching(device, capacity=3) as batcher:
        assert len((await batcher.submit(row(*range(8))))["twice"]) == 8


async def test_a_queue_too_long_for_the_deadline_is_refused_at_the_door() -> None:
    device = Device()
    async with batching(device) as batcher:
        first = await occupy(batcher, device)
        await asyncio.sleep(0.2)
        device.gate.set()
        await first  # the measured rate is now below five rows a second
        first = await occupy(batcher, device)
        tasks = await waiting(batcher, *[row(i) for i in range(20)])
        with bound(RequestContext("hasty", deadline=time.monotonic() + 3)), pytest.raises(QueueFull) as caught:
            await batcher.submit(row(99))
        assert caught.value.retry_after is not None and caught.value.retry_after >= 4
        device.gate.set()
        await asyncio.gather(first, *tasks)
    assert [99] not in device.batches


async def test_closing_finishes_what_runs_and_answers_what_waits() -> None:
    device = Device()
    async with batching(device) as batcher:
        running = await occupy(batcher, device)
        (queued,) = await waiting(batcher, row(1))
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0.01)
        device.gate.set()
        await closing
        assert (await running)["twice"].tolist() == [[0]]
        for late in (queued, asyncio.create_task(batcher.submit(row(2)))):
            with pytest.raises(NotReady):
                await late
    assert device.batches == [[0]]


async def test_a_run_that_hangs_shows() -> None:
    device = Device()
    async with batching(device) as batcher:
        assert batcher.busy_s == 0
        task = await occupy(batcher, device)
        await asyncio.sleep(0.02)
        assert batcher.busy_s >= 0.02
        device.gate.set()
        await task
        await batcher.submit(row(1))
        assert batcher.busy_s == 0
