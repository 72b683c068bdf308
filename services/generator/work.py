"""Generations at work: one at a time on the device, told step by step, stopped between two steps.

Nothing here is lasting: the records are the gateway's. If this process dies, whoever asked asks again, and the same id
with the same words starts the same pictures.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256

import structlog
from PIL import Image

from services.common.serving.errors import NotFound, Problem, QueueFull, Unprocessable
from services.common.serving.generation import Ask, Failure, GeneratorModel, Made, Progress, Status
from services.common.vision.photo import PhotoError, open_photo
from services.common.vision.synthetic import COMPOSITE_TYPE, SOURCE_TYPE, png
from services.generator.engine import Canceled, Engine
from services.generator.inpaint import Canvas, canvas, read_mask
from services.generator.marks import marked
from services.generator.provenance import Signer

log = structlog.get_logger(__name__)
_KEPT = 4  # finished generations whose pictures may still be fetched
_LONGEST_WAIT_S = 20.0


@dataclass(eq=False)
class Generation:
    """One generation; `pictures` are signed PNGs. `changed` is set, and replaced, whenever anything moves."""

    id: str
    ask: Ask
    canvas: Canvas | None
    total: int
    model: GeneratorModel
    status: Status = "running"
    done: int = 0
    canceled: bool = False
    images: list[Made] = field(default_factory=list)
    pictures: list[bytes] = field(default_factory=list)
    error: Failure | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def progress(self) -> Progress:
        return Progress(
            id=self.id,
            status=self.status,
            done=self.done,
            total=self.total,
            images=list(self.images),
            model=self.model,
            error=self.error,
        )


class Work:
    """The device's work. `device` is the one thread that touches the model."""

    def __init__(self, engine: Engine, signer: Signer, device: ThreadPoolExecutor) -> None:
        self.engine, self._signer, self._device = engine, signer, device
        self._known: OrderedDict[str, Generation] = OrderedDict()
        self._running: asyncio.Task[None] | None = None

    async def check(self, ask: Ask) -> Canvas | None:
        """Everything that can be refused without drawing. Raises Unprocessable."""
        self.engine.check(ask)
        return await asyncio.to_thread(_canvas, ask)

    async def start(self, generation_id: str, ask: Ask) -> Progress:
        """Begin; the same id again is told how far it is. Raises QueueFull while another runs, and Unprocessable."""
        if generation_id not in self._known:
            self._free()
            prepared = await self.check(ask)
            self._free()  # another may have come while the photo was decoded
            total = self.engine.steps(ask) * len(ask.prompts)
            job = Generation(generation_id, ask, prepared, total, self.engine.model)
            self._known[generation_id] = job
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
            self._running = asyncio.create_task(self._run(job), name=generation_id)
        return self._known[generation_id].progress()

    async def progress(self, generation_id: str, *, seen: int, wait_s: float) -> Progress:
        """How far it is; waits up to `wait_s` while no more than `seen` steps are done. Raises NotFound."""
        job = self._job(generation_id)
        with suppress(TimeoutError):
            async with asyncio.timeout(min(wait_s, _LONGEST_WAIT_S)):
                while job.status == "running" and job.done <= seen:
                    await job.changed.wait()
        return job.progress()

    def picture(self, generation_id: str, number: int) -> bytes:
        """Raises NotFound."""
        pictures = self._job(generation_id).pictures
        if number >= len(pictures):
            raise NotFound("The generation has no such picture yet")
        return pictures[number]

    def cancel(self, generation_id: str) -> Progress:
        """Stop after the denoising step that runs now. Raises NotFound."""
        job = self._job(generation_id)
        job.canceled = True
        return job.progress()

    async def close(self) -> None:
        for job in self._known.values():
            job.canceled = True
        if self._running is not None:
            await asyncio.wait([self._running])

    def _free(self) -> None:
        if self._running is not None and not self._running.done():
            raise QueueFull("The generator draws one generation at a time. Ask again when it is done.", retry_after=2)

    def _job(self, generation_id: str) -> Generation:
        if generation_id not in self._known:
            raise NotFound("The generator does not know this generation: it was started anew, or never heard of it")
        return self._known[generation_id]

    async def _run(self, job: Generation) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._device, self._draw, job, loop)
            status: Status = "succeeded"
        except Canceled:
            status = "canceled"
        except Exception as error:  # out of memory, a broken driver: the next generation may do better
            log.exception("generation failed", generation=job.id)
            problem = (
                error if isinstance(error, Problem) else Problem("The model failed; the generator's log says why.")
            )
            job.error = Failure(slug=problem.slug, title=problem.title, status=problem.status, detail=problem.detail)
            status = "failed"
        job.status = status
        _tell(job)

    def _draw(self, job: Generation, loop: asyncio.AbstractEventLoop) -> None:
        """In the device's thread: draw, mark and sign. No picture leaves this function in any other state."""

        def stepped() -> None:
            if job.canceled:
                raise Canceled
            job.done += 1
            loop.call_soon_threadsafe(_tell, job)

        for number, prompt in enumerate(job.ask.prompts):
            started = time.perf_counter()
            pixels = self.engine.draw(job.ask, number, stepped, job.canvas)
            if not job.ask.unmarked:
                pixels = marked(pixels)
            seed, painted = job.ask.seed + number, job.canvas is not None
            plain = png(
                Image.fromarray(pixels),
                prompt=prompt,
                seed=seed,
                source_type=COMPOSITE_TYPE if painted else SOURCE_TYPE,
            )
            model = f"{job.model.base_sha256}+{job.model.lora_sha256 or 'none'}"
            signed = self._signer.sign(plain, prompt=prompt, seed=seed, model=model, painted=painted)
            job.pictures.append(signed)
            job.images.append(
                Made(
                    prompt=prompt,
                    seed=seed,
                    width=pixels.shape[1],
                    height=pixels.shape[0],
                    sha256=sha256(signed).hexdigest(),
                    seconds=round(time.perf_counter() - started, 3),
                )
            )


def _tell(job: Generation) -> None:
    changed, job.changed = job.changed, asyncio.Event()
    changed.set()


def _canvas(ask: Ask) -> Canvas | None:
    if ask.inpaint is None:
        return None
    try:
        photo = open_photo(ask.inpaint.photo)
    except PhotoError as error:
        raise Unprocessable(f"inpaint.photo: {error}") from error
    height, width = photo.pixels.shape[:2]
    return canvas(photo.pixels, read_mask(ask.inpaint.mask, height, width), ask.width, ask.height)
