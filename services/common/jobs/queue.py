"""A bounded job queue on BullMQ: one job per id, at least once, never more waiting than `limit`, and fair."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from bullmq import Queue
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.common.jobs.connection import PREFIX
from services.common.jobs.turns import NOBODYS, Share, Turns
from services.common.serving import tracing
from services.common.serving.errors import NotReady, QueueFull

_UNFINISHED = ("wait", "prioritized", "delayed", "active", "paused")


class JobQueue:
    """The producer's side of one queue.

    Every method raises NotReady when the server cannot be reached. `attempts` bounds how often a job that raises is
    tried; the wait between tries doubles from one second.
    """

    def __init__(self, redis: Redis, name: str, *, limit: int, attempts: int = 5) -> None:
        self._redis = redis
        self._limit = limit
        self._arriving = 0
        self._options = {
            "attempts": attempts,
            "backoff": {"type": "exponential", "delay": 1000},
            "removeOnComplete": True,
            # Failed jobs stay visible to whoever looks into the queue; the records keep them for good.
            "removeOnFail": {"count": 1000},
        }
        self._queue = Queue(name, {"connection": redis, "prefix": PREFIX})
        self._turns = Turns(redis, name)

    async def add(self, job_id: str, data: Mapping[str, str], share: Share = NOBODYS) -> None:
        """Queue a job where its share's turn is; a job with this id that is still known is left as it is."""
        try:
            priority = await self._turns.next(share)
            options = {**self._options, "jobId": job_id, "priority": priority}
            await self._queue.add(self._queue.name, {**data, **_trace()}, options)
        except (RedisError, OSError) as error:
            raise _unreachable() from error

    async def forget(self, job_id: str) -> None:
        """Take a job out of the queue, unless a worker has it: whatever that one writes is fenced by the records."""
        try:
            await self._queue.remove(job_id)
        except (RedisError, OSError) as error:
            raise _unreachable() from error

    async def depth(self) -> int:
        """How many jobs are not finished yet, running ones included."""
        try:
            return int(await self._queue.getJobCountByTypes(*_UNFINISHED))
        except (RedisError, OSError) as error:
            raise _unreachable() from error

    async def state(self, job_id: str) -> str:
        """BullMQ's word for where the job is: waiting, active, delayed, failed, ... or unknown."""
        try:
            return str(await self._queue.getJobState(job_id))
        except (RedisError, OSError) as error:
            raise _unreachable() from error

    @asynccontextmanager
    async def room(self) -> AsyncIterator[None]:
        """Hold one place while an upload is read, so that many at once cannot overshoot; raises QueueFull.

        Batches that wait behind all interactive work take no place away from it.
        """
        self._arriving += 1
        try:
            if await self._unfinished() + self._arriving > self._limit:
                raise QueueFull(f"{self._limit} jobs are waiting already; send this again a little later")
            yield
        finally:
            self._arriving -= 1

    async def _unfinished(self) -> int:
        try:
            return await self._turns.unfinished()
        except (RedisError, OSError) as error:
            raise _unreachable() from error

    async def close(self) -> None:
        await self._redis.aclose()


def _trace() -> dict[str, str]:
    """The trace goes along, so that a worker's spans stand in that of the request."""
    found = tracing.traceparent()
    return {tracing.TRACEPARENT: found} if found else {}


def _unreachable() -> NotReady:
    return NotReady("The queue cannot be reached; send this again a little later")
