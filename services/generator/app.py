"""The generator's routes. Claimsight ships no base model for it: until one is configured it says so, and how."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import structlog
from fastapi import FastAPI, Path, Query
from starlette.responses import Response

import services
from services.common.serving.app import create_app
from services.common.serving.errors import NotReady
from services.common.serving.generation import MAX_PHOTO_BYTES, Ask, GeneratorModel, Progress
from services.common.serving.health import Readiness
from services.generator.settings import Settings

if TYPE_CHECKING:
    from services.generator.work import Work

log = structlog.get_logger(__name__)

_OFF = (
    "Generation is off: no base model is configured. Set CLAIMSIGHT_GENERATOR_BASE_MODEL to a diffusers folder of SDXL "
    "or SD 1.5 and CLAIMSIGHT_GENERATOR_SIGNING to a signing key, and start the generator again."
)
_NO_KEY = (
    "Generation is off: no picture leaves unsigned, and there is no key. Make one: python -m services.generator.keys "
    "--out FOLDER. Then set CLAIMSIGHT_GENERATOR_SIGNING to the folder and start the generator again."
)
_Id = Annotated[str, Path(pattern="^[A-Za-z0-9_]{1,64}$")]


class Host:
    """Loads the model while the app already answers, and says how far it is."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._state, self._detail = ("loading", "") if settings.base_model else ("off", _OFF)
        if settings.base_model and settings.signing is None:
            self._state, self._detail = "off", _NO_KEY
        self._work: Work | None = None

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        app.state.readiness = self.readiness
        device = ThreadPoolExecutor(1, thread_name_prefix="generator-device")
        loading = asyncio.create_task(self._load(device)) if self._state == "loading" else None
        try:
            yield
        finally:
            if loading is not None:
                await asyncio.wait([loading])
            if self._work is not None:
                await self._work.close()
            device.shutdown(wait=False)

    async def readiness(self) -> Readiness:
        return Readiness(self._state, self._detail)

    @property
    def work(self) -> Work:
        """Raises NotReady, saying what is missing."""
        if self._work is None:
            raise NotReady(self._detail or "The generator is loading its model. Ask again in a moment.")
        return self._work

    async def _load(self, device: ThreadPoolExecutor) -> None:
        try:
            self._work = await asyncio.get_running_loop().run_in_executor(device, _open, self._settings, device)
            self._state = "ready"
            log.info("generator ready", **self._work.engine.model.model_dump())
        except ImportError:
            self._fail("The generator's libraries are missing. Install them: pip install 'claimsight[generate]'")
        except ValueError as error:  # BaseModelError and SigningError say what to do
            self._fail(str(error))
        except Exception as error:
            log.exception("the generator cannot start")
            self._fail(f"The model cannot be loaded ({type(error).__name__}); the generator's log says more.")

    def _fail(self, detail: str) -> None:
        self._state, self._detail = "failed", detail
        log.error("the generator cannot serve", reason=detail)


def _open(settings: Settings, device: ThreadPoolExecutor) -> Work:
    # Torch is imported here and nowhere before: a generator that is off needs none of its libraries.
    from services.generator.engine import Engine  # noqa: PLC0415
    from services.generator.provenance import Signer  # noqa: PLC0415
    from services.generator.work import Work  # noqa: PLC0415

    assert settings.signing is not None
    signer = Signer(settings.signing)  # cheap: a wrong key is told before gigabytes are read
    return Work(Engine(settings), signer, device)


def build_app(settings: Settings) -> FastAPI:
    """The app; without a base model it lives, and is not ready."""
    host = Host(settings)
    app = create_app(
        service="generator",
        version=services.VERSION,
        lifespan=host.lifespan,
        readiness=host.readiness,
        internal_key=settings.internal_key,
        max_body_bytes=3 * MAX_PHOTO_BYTES,  # photo and mask in base64
    )

    @app.get("/v1/info")
    async def info() -> GeneratorModel:
        """What draws here."""
        return host.work.engine.model

    @app.post("/v1/check", status_code=204)
    async def check(ask: Ask) -> None:
        """Refuse now what would be refused later; 204 where it can be drawn."""
        await host.work.check(ask)

    @app.put("/v1/generations/{generation_id}", status_code=202)
    async def start(generation_id: _Id, ask: Ask) -> Progress:
        """Begin a generation; the same id again tells how far it is. 503 while another one is drawn."""
        return await host.work.start(generation_id, ask)

    @app.get("/v1/generations/{generation_id}")
    async def progress(
        generation_id: _Id,
        seen: Annotated[int, Query(ge=-1, description="steps that are known; waits for more")] = -1,
        wait: Annotated[float, Query(ge=0, le=20)] = 0,
    ) -> Progress:
        """How far it is."""
        return await host.work.progress(generation_id, seen=seen, wait_s=wait)

    @app.get("/v1/generations/{generation_id}/images/{number}", response_class=Response)
    async def picture(generation_id: _Id, number: Annotated[int, Path(ge=0, le=64)]) -> Response:
        """A marked, signed PNG."""
        return Response(host.work.picture(generation_id, number), media_type="image/png")

    @app.delete("/v1/generations/{generation_id}")
    async def cancel(generation_id: _Id) -> Progress:
        """Stop between two denoising steps."""
        return host.work.cancel(generation_id)

    return app
