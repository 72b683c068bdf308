"""A worker loop on BullMQ: locks are renewed while a job runs, and the job of a dead worker is taken over.

A job runs at least once; what it writes must therefore be fenced by the writer (see `gateway/records/store.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from bullmq import Job, Worker
from bullmq.custom_errors import DelayedError
from redis.exceptions import RedisError

from services.common.jobs.connection import PREFIX, listening

log = structlog.get_logger(__name__)

Handler = Callable[[dict[str, str]], Awaitable[None]]
OnDead = Callable[[dict[str, str], str], Awaitable[None]]

_MAX_STALLS = 2  # a job that was running while three workers died is what kills them


class Later(Exception):
    """Raised by a handler: put the job back and try it again after `seconds`; this does not count as an attempt."""

    def __init__(self, seconds: float, why: str) -> None:
        super().__init__(why)
        self.seconds = seconds


class JobWorker:
    """Runs `handler` for every job of the queue `name`, at most `concurrency` at once.

    `on_dead` hears of every job that will not be tried again, with the reason. A killed worker's job is taken over
    after at most `lock_seconds` plus two stall checks (each half of `lock_seconds`).
    """

    def __init__(
        self,
        url: str,
        name: str,
        handler: Handler,
        on_dead: OnDead,
        *,
        concurrency: int = 1,
        lock_seconds: float = 15,
    ) -> None:
        self._handler = handler
        self._on_dead = on_dead
        self._reports: set[asyncio.Task[None]] = set()
        lock_ms = int(lock_seconds * 1000)
        self._worker = Worker(
            name,
            self._process,
            {
                "connection": listening(url),
                "prefix": PREFIX,
                "autorun": False,
                "concurrency": concurrency,
                "lockDuration": lock_ms,
                "stalledInterval": lock_ms // 2,
                "maxStalledCount": _MAX_STALLS,
                "runRetryDelay": 1000,
            },
        )
        self._worker.on("failed", self._failed)
        self._worker.on("error", lambda error, *_: log.warning("queue error", error=str(error)))
        self._worker.on("stalled", lambda job_id: log.warning("taking over a stalled job", job=job_id))

    async def run(self) -> None:
        """Work until `stop`; waits through a lost server."""
        while not self._worker.closing:
            try:
                await self._worker.run()
            except (RedisError, OSError) as error:
                log.warning("the queue cannot be reached", error=str(error))
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                if not self._worker.forceClosing:  # else it is a job's, which `stop` has cancelled
                    raise
            except Exception:  # a worker that stops in silence is worse than one that complains every second
                log.exception("the queue cannot be read")
                await asyncio.sleep(1)

    async def stop(self, grace_seconds: float) -> None:
        """Take no new job, let running ones finish for `grace_seconds`, leave the rest to another worker."""
        closing = asyncio.ensure_future(self._worker.close())
        ends = asyncio.get_running_loop().time() + grace_seconds
        while not closing.done():
            # BullMQ cancels the wait it sees; one that begins just then would hold the worker for its full length.
            if self._worker.waiting is not None:
                self._worker.waiting.cancel()
            if asyncio.get_running_loop().time() > ends and not self._worker.forceClosing:
                log.warning("stopping with jobs unfinished; another worker takes them over")
                self._worker.forceClosing = True
                self._worker.cancelProcessing()
            await asyncio.wait([closing], timeout=0.05)
        if self._reports:
            await asyncio.wait(self._reports, timeout=grace_seconds)

    async def _process(self, job: Job, token: str) -> None:
        try:
            await self._handler(job.data)
        except Later as later:
            log.info("job put off", job=job.id, seconds=later.seconds, why=str(later))
            await job.moveToDelayed(round((time.time() + later.seconds) * 1000), token)
            raise DelayedError from later

    def _failed(self, job: Job, error: Exception) -> None:
        log.warning("job failed", job=job.id, attempt=job.attemptsMade, error=str(error) or type(error).__name__)
        task = asyncio.ensure_future(self._report(job, error))
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def _report(self, job: Any, error: Exception) -> None:
        if await job.getState() == "failed":  # and not waiting for another attempt
            await self._on_dead(job.data, str(error) or type(error).__name__)
