"""The dynamic batcher: whatever waits when the device becomes free runs next, together.

No timer: at low load nobody waits for company, at high load batches fill by themselves. One thread owns the session.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import structlog
from numpy.typing import NDArray

from services.common.serving import telemetry, tracing
from services.common.serving.context import current
from services.common.serving.errors import DeadlineExceeded, NotReady, Problem, QueueFull

Outputs = Mapping[str, NDArray[np.float32]]
Run = Callable[[NDArray[np.uint8]], Outputs]

_SMOOTHING = 0.2  # weight of the newest batch in the drain rate
_MAX_RETRY_AFTER_S = 60

_log = structlog.get_logger(__name__)


@dataclass(eq=False)
class _Item:
    rows: NDArray[np.uint8]
    done: asyncio.Future[Outputs]
    queued_at: float
    trace: str | None = field(default_factory=tracing.traceparent)  # whose rows these are


class Batcher:
    """Runs `run` on batches of at most `max_rows` rows; at most `capacity` rows wait.

    An item is one caller's rows, any number of them: its rows stay in order, and a large item runs in pieces. An item
    that makes its batch fail fails alone: the others run again by themselves.
    """

    def __init__(self, run: Run, *, service: str, max_rows: int, capacity: int, device: ThreadPoolExecutor) -> None:
        self._run = run
        self._service = service
        self._max_rows = max_rows
        self._capacity = capacity
        self._device = device
        self._waiting: deque[_Item] = deque()
        self._arrived = asyncio.Event()
        self._rows_per_s = 0.0
        self._busy_since: float | None = None
        self.failures = 0  # batches in a row of which nothing came out
        self._drain = asyncio.create_task(self._drain_forever(), name=f"{service} batcher")

    @property
    def depth(self) -> int:
        """Rows that wait."""
        return sum(len(item.rows) for item in self._waiting)

    @property
    def busy_s(self) -> float:
        """How long the present run has taken so far, in seconds."""
        return time.monotonic() - self._busy_since if self._busy_since is not None else 0.0

    async def submit(self, rows: NDArray[np.uint8]) -> Outputs:
        """The outputs for `rows` (uint8 [n, ...], n >= 1), each [n, ...].

        Gives up at the deadline of the current request, and takes its rows out of the queue when it is cancelled.
        Raises QueueFull, DeadlineExceeded, Problem (the model failed on these rows), NotReady (shutting down).
        """
        if self._drain.done():
            raise NotReady(f"The {self._service} is shutting down.")
        left = current().remaining_s
        self._admit(len(rows), left)
        item = _Item(rows, asyncio.get_running_loop().create_future(), time.monotonic())
        self._waiting.append(item)
        self._arrived.set()
        self._gauge()
        try:
            async with asyncio.timeout(left):
                return await item.done  # a cancelled wait cancels the future too: the batch leaves such items out
        except TimeoutError:
            telemetry.REJECTED.labels(self._service, "deadline").inc()
            raise DeadlineExceeded(f"The {self._service} had no time for this before its deadline.") from None

    async def close(self) -> None:
        """Answer everything that still waits with NotReady, after the batch on the device is through."""
        self._drain.cancel()
        await asyncio.gather(self._drain, return_exceptions=True)
        for item in self._waiting:
            if not item.done.done():
                item.done.set_exception(NotReady(f"The {self._service} is shutting down."))
        self._waiting.clear()

    def _admit(self, n: int, left: float | None) -> None:
        """Refuse now what would be refused later: a full queue, or one too long for the caller's deadline."""
        if left is not None and left <= 0:
            telemetry.REJECTED.labels(self._service, "deadline").inc()
            raise DeadlineExceeded(f"The deadline had passed before this reached the {self._service}.")
        depth = self.depth
        wait = depth / self._rows_per_s if self._rows_per_s else 0.0
        retry_after = min(_MAX_RETRY_AFTER_S, max(1, math.ceil(wait)))
        if depth and depth + n > self._capacity:
            telemetry.REJECTED.labels(self._service, "queue_full").inc()
            raise QueueFull(f"{depth} rows wait for the {self._service} already.", retry_after=retry_after)
        if left is not None and wait > left:
            telemetry.REJECTED.labels(self._service, "queue_full").inc()
            raise QueueFull(
                f"The {self._service} would come to this in about {wait:.1f} s, and {left:.1f} s are left.",
                retry_after=retry_after,
            )

    async def _drain_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            batch = self._take()
            if not batch:
                self._arrived.clear()
                continue
            self._busy_since = time.monotonic()
            # Shielded: closing waits for the device, because a run on it cannot be interrupted.
            work = loop.run_in_executor(self._device, self._results, [item.rows for item in batch])
            # One run for many traces: it lies in the first one's, and leads to the others.
            batch_span = tracing.span(
                "infer",
                {"claimsight.service": self._service, "claimsight.rows": sum(len(item.rows) for item in batch)},
                parent=batch[0].trace,
                links=[item.trace for item in batch[1:]],
            )
            try:
                with batch_span:
                    results = await asyncio.shield(work)
            except asyncio.CancelledError:
                self._settle(batch, await work)
                raise
            finally:
                self._measure(batch, time.monotonic() - self._busy_since)
                self._busy_since = None
            self._settle(batch, results)

    def _take(self) -> list[_Item]:
        """The next batch: whole items in order of arrival while they fit, without those nobody waits for."""
        batch: list[_Item] = []
        rows = 0
        while self._waiting:
            item = self._waiting[0]
            if item.done.done():
                self._waiting.popleft()
                telemetry.REJECTED.labels(self._service, "caller_left").inc()
                continue
            if batch and rows + len(item.rows) > self._max_rows:
                break
            batch.append(self._waiting.popleft())
            rows += len(item.rows)
            waited_s = time.monotonic() - item.queued_at
            telemetry.STAGE_SECONDS.labels(self._service, "queue").observe(waited_s)
            if item.trace:
                tracing.past("queue wait", waited_s, parent=item.trace)
        self._gauge()
        return batch

    def _results(self, items: list[NDArray[np.uint8]]) -> list[Outputs | Exception]:
        """On the device thread: one result per item; when the batch fails, each item runs by itself."""
        try:
            outputs = self._pieces(np.concatenate(items) if len(items) > 1 else items[0])
        except Exception as error:
            if len(items) == 1:
                _log.error("the model failed", service=self._service, exc_info=error)
                return [error]
            _log.warning("a batch failed; its items run one by one", service=self._service, items=len(items))
            return [result for item in items for result in self._results([item])]
        edges = np.cumsum([len(item) for item in items])[:-1]
        split = {name: np.split(array, edges) for name, array in outputs.items()}
        return [{name: parts[i] for name, parts in split.items()} for i in range(len(items))]

    def _pieces(self, rows: NDArray[np.uint8]) -> Outputs:
        found = []
        for start in range(0, len(rows), self._max_rows):
            piece = rows[start : start + self._max_rows]
            telemetry.BATCH_SIZE.labels(self._service).observe(len(piece))
            found.append(self._run(piece))
        if len(found) == 1:
            return found[0]
        return {name: np.concatenate([piece[name] for piece in found]) for name in found[0]}

    def _settle(self, batch: list[_Item], results: list[Outputs | Exception]) -> None:
        self.failures = self.failures + 1 if all(isinstance(r, Exception) for r in results) else 0
        for item, result in zip(batch, results, strict=True):
            if item.done.done():  # the caller left while the device worked
                continue
            if isinstance(result, Exception):
                problem = Problem(f"The {self._service}'s model failed on this input.", retry_after=5)
                problem.__cause__ = result
                item.done.set_exception(problem)
            else:
                item.done.set_result(result)

    def _measure(self, batch: list[_Item], seconds: float) -> None:
        rate = sum(len(item.rows) for item in batch) / max(seconds, 1e-6)
        self._rows_per_s = rate if not self._rows_per_s else (1 - _SMOOTHING) * self._rows_per_s + _SMOOTHING * rate
        telemetry.STAGE_SECONDS.labels(self._service, "infer").observe(seconds)

    def _gauge(self) -> None:
        telemetry.QUEUE_DEPTH.labels(self._service).set(self.depth)
