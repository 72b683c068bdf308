"""The worker: assesses queued claims, makes sure that the queue knows every unfinished one, and sends webhooks."""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from services.common.jobs.payload import CLAIMS, ClaimJob
from services.common.jobs.worker import JobWorker, Turn
from services.common.serving.ending import end
from services.gateway import claim_job, deadlines, eraser
from services.gateway.batches.feeder import Feeder
from services.gateway.generated.worker import GenerationWorker
from services.gateway.packs import trial
from services.gateway.requeuing import keep_queued
from services.gateway.runtime import Runtime
from services.gateway.webhooks.sender import Sender

log = structlog.get_logger(__name__)


class ClaimWorker:
    """`start` it in a running event loop, alone in a process or beside the API; `stop` lets running claims finish."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        settings = runtime.settings
        self._jobs = JobWorker(
            settings.redis_url,
            CLAIMS,
            self._work,
            self._dead,
            concurrency=settings.worker_concurrency,
            lock_seconds=settings.lock_seconds,
            deaths=settings.worker_deaths,
        )
        self._sender = Sender(runtime.webhooks, runtime.outbound)
        self._feeder = Feeder(runtime)
        self._generations = GenerationWorker(runtime) if runtime.clients.generator else None
        self._stopping: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._runtime.ahead.fetch(self._runtime.settings.worker_concurrency)
        self._tasks = [
            asyncio.create_task(task)
            for task in (
                self._jobs.run(),
                keep_queued(partial(requeue, self._runtime), self._runtime.settings.requeue_seconds),
                self._feeder.run(),
                self._sender.run(),
                eraser.run(self._runtime),
                deadlines.run(self._runtime),
            )
        ]

        if self._generations is not None:
            self._generations.start()

    def leave(self) -> None:
        """Begin to stop: take no new claim, and finish those in hand or give them back."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())

    async def stop(self) -> None:
        """Until everything is finished or given back."""
        self.leave()
        if self._stopping is not None:
            await self._stopping

    async def _stop(self) -> None:
        _, keeping, feeding, *_ = self._tasks
        keeping.cancel()
        feeding.cancel()
        if self._generations is not None:
            await self._generations.stop()
        await self._jobs.stop(self._runtime.settings.drain_seconds)
        await end(*self._tasks)

    async def _work(self, data: dict[str, str], turn: Turn) -> None:
        claim_id = ClaimJob.from_json(data).claim_id
        if await claim_job.work(self._runtime, claim_id, turn.ended):
            await trial.run(self._runtime, claim_id)

    async def _dead(self, data: dict[str, str], reason: str) -> None:
        await claim_job.give_up(self._runtime, ClaimJob.from_json(data).claim_id, reason)


async def requeue(runtime: Runtime, older_than_ms: int) -> None:
    """Queue every unfinished claim that the queue does not know: it lost its memory, or never heard of it."""
    for claim in await runtime.claims.unfinished(older_than_ms=older_than_ms):
        state = await runtime.queue.state(claim.id)
        if state == "unknown":
            log.info("queueing a claim again", claim=claim.id)
            await runtime.queue.add(claim.id, ClaimJob(claim.id).to_json(), claim.share)
        elif state == "failed":  # dead, and whoever should have told the records died too
            await claim_job.give_up(runtime, claim.id, "its job failed for good")
