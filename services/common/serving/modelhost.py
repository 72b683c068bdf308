"""What a model service holds: a pack that loads in the background, its session, and the batcher in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Literal

import numpy as np
import structlog
from fastapi import FastAPI
from numpy.typing import NDArray

from services.common.serving import telemetry
from services.common.serving.batcher import Batcher
from services.common.serving.errors import NotReady
from services.common.serving.golden import Contract
from services.common.serving.health import Readiness
from services.common.serving.modelpack import Pack, PackError, load_pack
from services.common.serving.schemas import ModelInfo
from services.common.serving.session import Choice, Session, SessionError, open_pack
from services.common.serving.settings import ModelSettings

STALLED_S = 60.0  # a run that takes this long hangs: the slowest graph here needs a few seconds on one core
_FAILURES = 5  # batches in a row that gave nothing: that is the device, not the input

State = Literal["loading", "warming", "ready", "failed"]
_log = structlog.get_logger(__name__)


class ModelHost:
    """One model behind one batcher. `start` returns at once; `readiness` tells how far loading has come."""

    def __init__(self, service: str, task: str, contract: Contract, settings: ModelSettings) -> None:
        self.service = service
        self._task = task
        self._contract = contract
        self._settings = settings
        self._state: State = "loading"
        self._detail = ""
        self._served: tuple[Pack, Session, Batcher] | None = None
        self._device = ThreadPoolExecutor(1, thread_name_prefix=f"{service}-device")
        self._loading: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Load while the app already answers its health routes; close when it stops."""
        app.state.readiness = self.readiness
        self._loading = asyncio.create_task(self._load(), name=f"{self.service} loading")
        try:
            yield
        finally:
            await self.close()

    async def close(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        if self._served is not None:
            await self._served[2].close()
        self._device.shutdown(wait=False)

    async def readiness(self) -> Readiness:
        state, detail = self._health()
        return Readiness(state, detail, {"queue": self._served[2].depth} if self._served else {})

    def _health(self) -> tuple[str, str]:
        """State and what to do about it; a model that was ready can hang or break later."""
        if self._state == "ready" and self._served is not None:
            batcher = self._served[2]
            if batcher.busy_s > STALLED_S:
                return "stalled", f"A model run hangs for {batcher.busy_s:.0f} s. Restart the {self.service}."
            if batcher.failures >= _FAILURES:
                return "failing", f"The last {batcher.failures} model runs failed. See the {self.service}'s log."
        return self._state, self._detail

    @property
    def pack(self) -> Pack:
        return self._ready()[0]

    @property
    def session(self) -> Session:
        return self._ready()[1]

    async def run(self, rows: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        """The graph's outputs for uint8 rows [n, h, w, 3]; see Batcher.submit for what it raises."""
        return await self._ready()[2].submit(rows)

    def info(self) -> ModelInfo:
        """Raises NotReady until the model is proven and warm: before that there is nothing certain to tell."""
        pack, session, _ = self._ready()
        manifest = pack.manifest
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

    def _ready(self) -> tuple[Pack, Session, Batcher]:
        if self._served is None:
            raise NotReady(self._detail or f"The {self.service} is {self._state}. Ask again in a moment.")
        return self._served

    async def _load(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            pack, session = await loop.run_in_executor(self._device, self._open)
            self._state = "warming"
            seconds = await loop.run_in_executor(self._device, session.warm_up)
        except (PackError, SessionError) as error:
            self._fail(f"{error} Then start the {self.service} again.")
            return
        except Exception as error:
            _log.error("the model cannot be served", service=self.service, exc_info=error)
            self._fail(f"The model cannot be served ({type(error).__name__}); the {self.service}'s log says more.")
            return
        batcher = Batcher(
            session.run,
            service=self.service,
            max_rows=session.buckets[-1],
            capacity=self._settings.queue_rows,
            device=self._device,
        )
        self._served = (pack, session, batcher)
        self._state = "ready"
        ref = session.ref
        telemetry.MODEL_INFO.labels(
            self.service, f"{ref.name}/{ref.version}", ref.sha256, ref.precision, ref.provider
        ).set(1)
        _log.info(
            "model ready", service=self.service, **ref.model_dump(), warm_up_s=round(seconds, 2), notes=session.notes
        )

    def _open(self) -> tuple[Pack, Session]:
        pack = load_pack(self._settings.pack)
        if pack.manifest.task != self._task:
            raise PackError(
                f"{pack.folder}: is a pack to {pack.manifest.task}; the {self.service} needs one to {self._task}."
            )
        settings = self._settings
        choice = Choice(
            provider=settings.provider,
            precision=settings.precision,
            require_gpu=settings.require_gpu,
            threads=settings.threads,
            max_batch=settings.max_batch,
            cache_dir=settings.engines,
        )
        return pack, open_pack(pack, self._contract, choice)

    def _fail(self, detail: str) -> None:
        self._state, self._detail = "failed", detail
        _log.error("the model cannot be served", service=self.service, reason=detail)
