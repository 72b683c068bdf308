"""A worker loop on BullMQ: locks are renewed while a job runs, and the job of a dead worker is taken over.

A job runs at least once; what it writes must therefore be fenced by the writer (see `gateway/records/store.py`).
A job that stops before its end goes back at once (`GiveWay`, `Later`, `stop`); only a killed worker's has to be missed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import structlog
from bullmq import Job, Worker
from bullmq.custom_errors import DelayedError
from redis.exceptions import RedisError

from services.common.jobs.connection import PREFIX, listening
from services.common.jobs.turns import Turns, remaining
from services.common.serving import tracing
from services.common.serving.telemetry import JOBS_PUT_OFF, JOBS_RECLAIMED

log = structlog.get_logger(__name__)

OnDead = Callable[[dict[str, str], str], Awaitable[None]]

_CHECK_S = 1.0  # how often the queue is searched for jobs whose lock ran out: one short script for all workers together


class Later(Exception):
    """Raised by a handler: put the job back and try it again after `seconds`; this does not count as an attempt."""

    def __init__(self, seconds: float, why: str) -> None:
        super().__init__(why)
        self.seconds = seconds


class GiveWay(Exception):
    """Raised by a handler whose turn has ended: another job comes first, then the rest of this one."""


class Turn:
    """What a handler may ask about the job that it was given."""

    def __init__(self, turns: Turns, priority: int) -> None:
        self._turns = turns
        self.priority = priority
        self._done = 0

    async def ended(self) -> bool:
        """A photo is done: whether another job comes before the next one. If so, raise GiveWay."""
        self._done += 1
        try:
            best = await self._turns.best()
        except (RedisError, OSError):
            return False  # nobody can be given way to
        return best is not None and best <= self.rest

    @property
    def rest(self) -> int:
        """The priority of what is left of the job."""
        return remaining(self.priority, self._done)


Handler = Callable[[dict[str, str], Turn], Awaitable[None]]


class JobWorker:
    """Runs `handler` for every job of the queue `name`, at most `concurrency` at once.

    `on_dead` hears of every job that will not be tried again, with the reason. A killed worker's job is taken over
    once its lock has run out, which is looked for every second: `lock_seconds` and two seconds at the latest. The lock
    of a job that runs is renewed every quarter to half of `lock_seconds`. A job that was running while more than
    `deaths` workers died, or were silent for so long, is dead itself: it may be what kills them.
    """

    def __init__(
        self,
        url: str,
        name: str,
        handler: Handler,
        on_dead: OnDead,
        *,
        concurrency: int = 1,
        lock_seconds: float = 10,
        deaths: int = 5,
    ) -> None:
        self._url = url
        self._name = name
        self._handler = handler
        self._on_dead = on_dead
        self._concurrency = concurrency
        self._deaths = deaths
        self._lock_ms = int(lock_seconds * 1000)
        self._reports: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._worker, self._turns = self._opened()

    async def run(self) -> None:
        """Work until `stop`; waits through a lost server."""
        while not self._stopping:
            try:
                await self._worker.run()
            except (RedisError, OSError) as error:
                log.warning("the queue cannot be reached", error=str(error))
            except asyncio.CancelledError:
                if not self._worker.forceClosing:  # else it is a job's, which `stop` has cancelled
                    raise
            except Exception:  # a worker that stops in silence is worse than one that complains every second
                log.exception("the queue cannot be read")
            if not self._stopping:
                await asyncio.sleep(1)
                # BullMQ's worker renews no locks in a second run, so that its jobs would be taken for a dead one's.
                await self._worker.close(force=True)
                self._worker, self._turns = self._opened()

    async def stop(self, grace_seconds: float) -> None:
        """Take no new job, let running ones finish for `grace_seconds`, give the rest back to the queue."""
        self._stopping = True
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

    def _opened(self) -> tuple[Worker, Turns]:
        redis = listening(self._url)
        worker = Worker(
            self._name,
            self._process,
            {
                "connection": redis,
                "prefix": PREFIX,
                "autorun": False,
                "concurrency": self._concurrency,
                "lockDuration": self._lock_ms,
                "stalledInterval": int(_CHECK_S * 1000),
                "maxStalledCount": self._deaths,
                "runRetryDelay": 1000,
            },
        )
        worker.on("failed", self._failed)
        worker.on("error", lambda error, *_: log.warning("queue error", error=str(error)))
        worker.on("stalled", _taken_over)
        return worker, Turns(redis, self._name)

    async def _process(self, job: Job, token: str) -> None:
        turn = Turn(self._turns, job.priority)
        with suppress(RedisError, OSError):  # a turn that is not counted is a little unfair, and nothing else
            await self._turns.taken(job.priority)
        try:
            with _traced(self._name, job):
                await self._handler(job.data, turn)
        except GiveWay as given:
            await self._put_back(job, token, turn)
            raise DelayedError from given
        except Later as put_off:
            JOBS_PUT_OFF.inc()
            log.info("job put off", job=job.id, seconds=put_off.seconds, why=str(put_off))
            await job.moveToDelayed(round((time.time() + put_off.seconds) * 1000), token)
            raise DelayedError from put_off
        except asyncio.CancelledError:
            # The process is about to end: without this, others would have to wait until the lock has run out.
            await asyncio.shield(self._put_back(job, token, turn))
            raise

    async def _put_back(self, job: Job, token: str, turn: Turn) -> None:
        with suppress(RedisError, OSError, TypeError):  # then its lock runs out
            await job.changePriority({"priority": turn.rest})
            await job.moveToDelayed(round(time.time() * 1000), token)

    def _failed(self, job: Job, error: Exception) -> None:
        log.warning("job failed", job=job.id, attempt=job.attemptsMade, error=str(error) or type(error).__name__)
        task = asyncio.ensure_future(self._report(job, error))
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def _report(self, job: Any, error: Exception) -> None:
        if await job.getState() == "failed":  # and not waiting for another attempt
            await self._on_dead(job.data, str(error) or type(error).__name__)


@contextmanager
def _traced(queue: str, job: Job) -> Iterator[None]:
    """A try of the job, in the trace of whoever queued it; the first one begins when it was queued."""
    waited_s = time.time() - job.timestamp / 1000 if job.attemptsStarted <= 1 else 0.0
    known = {"claimsight.job": job.id, "claimsight.try": job.attemptsStarted}
    parent = job.data.get(tracing.TRACEPARENT)
    with tracing.span(queue, known, kind="CONSUMER", parent=parent, waited_s=waited_s, unless=(GiveWay,)):
        if waited_s:
            tracing.past("queue wait", waited_s)
        yield


def _taken_over(job_id: str, *_: object) -> None:
    JOBS_RECLAIMED.inc()
    log.warning("taking over a stalled job", job=job_id)
