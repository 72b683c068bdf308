"""The generation worker: one generation at a time, from a queue of its own."""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from services.common.jobs.payload import GENERATIONS, GenerationJob
from services.common.jobs.worker import JobWorker, Turn
from services.common.serving.ending import end
from services.gateway.generated import job
from services.gateway.requeuing import keep_queued
from services.gateway.runtime import Runtime

log = structlog.get_logger(__name__)


class GenerationWorker:
    """`start` it in a running event loop. One generation at once: several devices have several workers."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        settings = runtime.settings
        self._jobs = JobWorker(
            settings.redis_url, GENERATIONS, self._work, self._dead, lock_seconds=settings.lock_seconds
        )
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._jobs.run()),
            asyncio.create_task(keep_queued(partial(requeue, self._runtime), self._runtime.settings.requeue_seconds)),
        ]

    async def stop(self) -> None:
        """Give back what is being drawn: the next worker finds it where it is by then."""
        await self._jobs.stop(0)
        await end(*self._tasks)

    async def _work(self, data: dict[str, str], _turn: Turn) -> None:
        await job.work(self._runtime, GenerationJob.from_json(data).generation_id)

    async def _dead(self, data: dict[str, str], reason: str) -> None:
        await job.give_up(self._runtime, GenerationJob.from_json(data).generation_id, reason)


async def requeue(runtime: Runtime, older_than_ms: int) -> None:
    """Queue every unfinished generation that the queue does not know."""
    for generation_id in await runtime.generations.unfinished(older_than_ms=older_than_ms):
        state = await runtime.generation_queue.state(generation_id)
        if state == "unknown":
            await runtime.generation_queue.add(generation_id, GenerationJob(generation_id).to_json())
        elif state == "failed":
            await job.give_up(runtime, generation_id, "its job failed for good")
