"""What a model service holds: a pack that loads in the background, its session, and the batcher in front of it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
import structlog
from fastapi import FastAPI
from numpy.typing import NDArray

from services.common.serving import telemetry
from services.common.serving.batcher import Batcher
from services.common.serving.cores import cpu_threads
from services.common.serving.errors import NotReady
from services.common.serving.golden import Contract
from services.common.serving.health import Readiness
from services.common.serving.modelpack import Pack, PackError, load_pack
from services.common.serving.schemas import ModelInfo, ModelRef
from services.common.serving.session import Choice, Session, SessionError, open_pack
from services.common.serving.settings import ModelSettings

STALLED_S = 60.0  # a run that takes this long hangs: the slowest graph here needs a few seconds on one core
_FAILURES = 5  # batches in a row that gave nothing: that is the device, not the input

_AGAIN_S = 30.0  # until a second pack that failed is loaded once more, should somebody ask for it

State = Literal["loading", "building_engine", "warming", "ready", "failed", "closed"]
_log = structlog.get_logger(__name__)


def _labels(service: str, ref: ModelRef) -> tuple[str, ...]:
    return service, f"{ref.name}/{ref.version}", ref.sha256, ref.precision, ref.provider


@dataclass(frozen=True)
class Instance:
    """One copy of the model with a queue and a thread of its own."""

    session: Session
    batcher: Batcher


class ModelHost:
    """One model, in one or several instances. `start` returns at once; `readiness` tells how far loading has come."""

    def __init__(
        self, service: str, task: str, contract: Contract, settings: ModelSettings, *, version: str | None = None
    ) -> None:
        """With `version` it is a second pack beside the service's own: it must be of that version, and what watches
        the service is told of the own one alone."""
        self.service = service
        self._version = version
        self._task = task
        self._contract = contract
        self._settings = settings
        self._state: State = "loading"
        self._detail = ""
        self._failed_at = 0.0
        self._progress: dict[str, object] = {}
        self._pack: Pack | None = None
        self._instances: list[Instance] = []  # what serves: empty until all of them are warm
        self._devices = [
            ThreadPoolExecutor(1, thread_name_prefix=f"{service}-device{number}")
            for number in range(settings.instances)
        ]
        self._loading: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Load while the app already answers its health routes; close when it stops."""
        app.state.readiness = self.readiness
        self.start()
        try:
            yield
        finally:
            await self.close()

    def start(self) -> None:
        self._loading = asyncio.create_task(self._load(), name=f"{self.service} loading")

    async def loaded(self) -> None:
        """Until loading has ended, well or not."""
        if self._loading is not None:
            await asyncio.wait({self._loading})

    async def close(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        closing, self._instances = self._instances, []
        self._state = "closed"
        await asyncio.gather(*(instance.batcher.close() for instance in closing))
        for instance in closing[:1]:
            with suppress(KeyError):
                telemetry.MODEL_INFO.remove(*_labels(self.service, instance.session.ref))
        for device in self._devices:
            device.shutdown(wait=False)

    async def readiness(self) -> Readiness:
        state, detail = self._health()
        if self._instances:
            return Readiness(state, detail, {"queue": sum(one.batcher.depth for one in self._instances)})
        return Readiness(state, detail, self._progress)

    def _health(self) -> tuple[str, str]:
        """State and what to do about it; a model that was ready can hang or break later."""
        for batcher in (instance.batcher for instance in self._instances):
            if batcher.busy_s > STALLED_S:
                return "stalled", f"A model run hangs for {batcher.busy_s:.0f} s. Restart the {self.service}."
            if batcher.failures >= _FAILURES:
                return "failing", f"The last {batcher.failures} model runs failed. See the {self.service}'s log."
        return self._state, self._detail

    @property
    def pack(self) -> Pack:
        self._ready()
        assert self._pack is not None
        return self._pack

    @property
    def session(self) -> Session:
        return self._ready()[0].session

    async def run(self, rows: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        """The graph's outputs for uint8 rows [n, h, w, 3]; see Batcher.submit for what it raises."""
        return await min(self._ready(), key=lambda instance: instance.batcher.depth).batcher.submit(rows)

    def info(self) -> ModelInfo:
        """Raises NotReady until the model is proven and warm: before that there is nothing certain to tell."""
        session, manifest = self.session, self.pack.manifest
        state, detail = self._health()
        return ModelInfo(
            service=self.service,
            model=session.ref,
            state="ready" if state == "ready" else "failed",
            providers=session.providers,
            vocabulary=manifest.vocabulary,
            names_hash=manifest.names_hash,
            supported=manifest.supported,
            input_height=manifest.input.height,
            input_width=manifest.input.width,
            resize=manifest.input.resize,
            context=manifest.input.context,
            backbone=manifest.backbone,
            embedding_dim=manifest.embedding_dim,
            temperature=manifest.temperature,
            thresholds=manifest.thresholds,
            max_batch=session.buckets[-1],
            notes=detail or session.notes,
        )

    @property
    def failed(self) -> str:
        """Why it cannot be served, where it cannot."""
        return self._detail if self._state == "failed" else ""

    @property
    def failed_lately(self) -> bool:
        """Whether it is too early to load it once more."""
        return time.monotonic() - self._failed_at < _AGAIN_S

    def _announce(self) -> None:
        if self._version is None:
            telemetry.model_state(self.service, self._state)

    def _ready(self) -> list[Instance]:
        if not self._instances:
            raise NotReady(self._detail or f"The {self.service} is {self._state}. Ask again in a moment.")
        return self._instances

    async def _load(self) -> None:
        """Open every instance on its own thread, one after the other: the second finds the engines of the first."""
        loop = asyncio.get_running_loop()
        sessions = []
        try:
            for number, device in enumerate(self._devices):
                sessions.append(await loop.run_in_executor(device, self._open, number))
        except (PackError, SessionError) as error:
            self._fail(f"{error} Then start the {self.service} again.")
            return
        except Exception as error:
            _log.error("the model cannot be served", service=self.service, exc_info=error)
            self._fail(f"The model cannot be served ({type(error).__name__}); the {self.service}'s log says more.")
            return
        capacity = math.ceil(self._settings.queue_rows / len(sessions))
        self._instances = [
            Instance(
                session,
                Batcher(
                    session.run,
                    service=self.service,
                    max_rows=session.buckets[-1],
                    capacity=capacity,
                    device=device,
                ),
            )
            for session, device in zip(sessions, self._devices, strict=True)
        ]
        self._state = "ready"
        ref = sessions[0].ref
        telemetry.MODEL_INFO.labels(*_labels(self.service, ref)).set(1)
        self._announce()
        _log.info(
            "model ready",
            service=self.service,
            **ref.model_dump(),
            instances=len(sessions),
            notes=sessions[0].notes,
        )

    def _open(self, number: int) -> Session:
        """On the device's thread: the pack, proven and warm."""
        settings = self._settings
        self._pack = load_pack(settings.pack)
        if self._pack.manifest.task != self._task:
            raise PackError(
                f"{self._pack.folder}: is a pack to {self._pack.manifest.task}; "
                f"the {self.service} needs one to {self._task}."
            )
        if self._version not in (None, self._pack.manifest.version):
            raise PackError(
                f"{self._pack.folder}: says that it is version {self._pack.manifest.version}. "
                "A folder is named for its version."
            )
        choice = Choice(
            provider=settings.provider,
            precision=settings.precision,
            require_gpu=settings.require_gpu,
            threads=settings.threads or max(1, cpu_threads() // settings.instances),
            max_batch=settings.max_batch,
            cache_dir=settings.engines,
            device=settings.gpus[number % len(settings.gpus)],
        )
        session = open_pack(self._pack, self._contract, choice)
        self._state = "building_engine" if session.builds_engines else "warming"
        self._announce()
        started = time.monotonic()

        def tell(done: int, total: int) -> None:
            spent = time.monotonic() - started
            self._progress = {"done": done, "total": total}
            if done:
                self._progress["eta_s"] = math.ceil(spent / done * (total - done))

        session.warm_up(tell)
        return session

    def _fail(self, detail: str) -> None:
        self._state, self._detail, self._failed_at = "failed", detail, time.monotonic()
        self._announce()
        _log.error("the model cannot be served", service=self.service, reason=detail)
