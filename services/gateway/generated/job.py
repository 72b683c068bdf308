"""Working on one generation: have it drawn, follow it step by step, register every picture, then show it."""

from __future__ import annotations

import asyncio
import io
from contextlib import suppress
from hashlib import sha256

import numpy as np
import structlog
from PIL import Image

from services.common.jobs.worker import Later
from services.common.serving.context import RequestContext, bound
from services.common.serving.errors import NotFound, NotReady, Problem
from services.common.serving.generation import Ask, Progress
from services.common.vision.photo import open_photo
from services.gateway import failures, ids
from services.gateway.generated.registry import dump
from services.gateway.photos import PhotoStore
from services.gateway.records import generation_rows
from services.gateway.records.attempts import StaleAttempt
from services.gateway.records.clock import now_ms
from services.gateway.records.generations import NewImage
from services.gateway.runtime import Runtime

log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 0.5  # how soon a generation that was canceled elsewhere is stopped, beside the hint it gets at once
_MOST_LOST = 3  # a generation that was being drawn while three generators died is what kills them
_LONGEST_PAUSE_S = 15.0


async def work(runtime: Runtime, generation_id: str) -> None:
    """Bring the generation as far as possible. Raises Later while no generator can take it."""
    with bound(RequestContext(generation_id)):
        try:
            attempt = await runtime.generations.begin(generation_id)
            row = await runtime.generations.load(generation_id)
            if row is not None:
                await _attempt(runtime, row, attempt)
        except StaleAttempt:
            await stop(runtime, generation_id)
        finally:
            await runtime.signals.publish(generation_id)


async def give_up(runtime: Runtime, generation_id: str, why: str) -> None:
    """End a generation that no worker will try again; `why` is for the log only."""
    log.error("generation given up", generation=generation_id, why=why)
    with suppress(StaleAttempt):
        attempt = await runtime.generations.begin(generation_id)
        problem = Problem("The picture could not be made after several tries. Ask again; if it stays, report its id.")
        await runtime.generations.fail(generation_id, attempt, failures.embedded(problem))
    await runtime.signals.publish(generation_id)


async def stop(runtime: Runtime, generation_id: str) -> None:
    """Tell the generator that nobody wants this any more; it stops after the denoising step that runs."""
    if runtime.clients.generator is not None:
        with suppress(Problem):
            await runtime.clients.generator.cancel(generation_id)


async def _attempt(runtime: Runtime, row: generation_rows.Generation, attempt: int) -> None:
    generator, started = runtime.clients.generator, False
    try:
        if generator is None:
            raise NotReady("The generator is not configured any more")
        ask = Ask.model_validate_json(await runtime.photos.get_made(row.id))
        state = await generator.start(row.id, ask)
        started = True
        while state.status == "running":
            await runtime.generations.report(row.id, attempt, state.done)
            await runtime.signals.publish(row.id)
            state = await generator.progress(row.id, seen=state.done, wait_s=_LOOK_EVERY_S)
        if state.status == "succeeded":
            await _keep(runtime, row, attempt, ask, state)
        elif state.status == "failed" and state.error is not None:
            raise Problem(state.error.detail) if state.error.status >= 500 else NotFound(state.error.detail)
        else:  # canceled in the generator alone, which was stopping
            raise NotReady("The generator stopped")
    except LookupError:
        await _fail(runtime, row, attempt, NotFound("What was asked for is no longer kept; ask again"))
    except Problem as problem:
        await _after(runtime, row, attempt, problem, started=started)


async def _after(
    runtime: Runtime, row: generation_rows.Generation, attempt: int, problem: Problem, *, started: bool
) -> None:
    """Fail where trying again cannot help, or has not helped; raises Later otherwise."""
    refused = problem.status < 500 and not (started and isinstance(problem, NotFound))
    waited_s = (now_ms() - row.created_at) / 1000
    if refused or waited_s > runtime.settings.claim_patience_seconds:
        await _fail(runtime, row, attempt, problem)
    elif started and await runtime.generations.lose(row.id, attempt) >= _MOST_LOST:
        await _fail(runtime, row, attempt, Problem(f"The generator broke off {_MOST_LOST} times while it drew this."))
    else:
        raise Later(min(2.0 ** min(attempt, 10) / 4, _LONGEST_PAUSE_S), problem.detail)


async def _fail(runtime: Runtime, row: generation_rows.Generation, attempt: int, problem: Problem) -> None:
    await runtime.generations.fail(row.id, attempt, failures.embedded(problem))


async def _keep(runtime: Runtime, row: generation_rows.Generation, attempt: int, ask: Ask, state: Progress) -> None:
    """Fetch, fingerprint and store every picture, then register all of them in the transaction that shows them."""
    generator = runtime.clients.generator
    assert generator is not None
    images = []
    for number, made in enumerate(state.images):
        data = await generator.picture(row.id, number)
        if sha256(data).hexdigest() != made.sha256:
            raise NotReady("A picture was damaged on its way from the generator")
        image_id = ids.new("img")
        hash_, fingerprint = await asyncio.to_thread(_fingerprint, data, ask)
        await store_of(runtime, unmarked=ask.unmarked).put_made(image_id, data)
        images.append(NewImage(image_id, made.sha256, hash_, fingerprint, made.model_dump()))
    # Before the pictures can be seen: none must be at large without a line of who asked for it.
    log.info(
        "audit: pictures generated",
        generation=row.id,
        tenant=row.tenant,
        key=row.key_id,
        prompts=ask.prompts,
        seed=ask.seed,
        model=state.model.model_dump(),
        images=[image.sha256 for image in images],
    )
    await runtime.generations.succeed(row.id, attempt, images, state.model.model_dump())


def store_of(runtime: Runtime, *, unmarked: bool) -> PhotoStore:
    """Pictures without the visible mark are kept apart. Raises NotReady where there is no place for them."""
    if not unmarked:
        return runtime.photos
    if runtime.training is None:
        raise NotReady("Pictures without mark need a store of their own: CLAIMSIGHT_GATEWAY_TRAINING_URL")
    return runtime.training


def _fingerprint(data: bytes, ask: Ask) -> tuple[int, bytes]:
    pixels = np.asarray(Image.open(io.BytesIO(data), formats=("PNG",)).convert("RGB"), np.uint8)
    if ask.inpaint is None:
        return dump(pixels)
    mask = np.asarray(Image.open(io.BytesIO(ask.inpaint.mask), formats=("PNG",)).convert("L")) > 127
    return dump(pixels, open_photo(ask.inpaint.photo).pixels, mask)
