"""`/v1/generations`: synthetic pictures of damage, marked, signed and registered before anybody sees them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import JSONResponse, Response

from services.common.jobs.payload import GenerationJob
from services.common.serving.errors import AlreadyFinished, NotFound, NotReady, Unprocessable
from services.common.serving.generation import Ask
from services.gateway import ids
from services.gateway.callers import Caller, Requires
from services.gateway.generated import job, show
from services.gateway.generated.show import Generation, GenerationList
from services.gateway.photos import PhotoStore
from services.gateway.records import generation_rows
from services.gateway.routes import paging
from services.gateway.routes.deps import Running
from services.gateway.runtime import Runtime

log = structlog.get_logger(__name__)
router = APIRouter(tags=["generations"])

Maker = Annotated[Caller, Depends(Requires("generate"))]
_PNG = {200: {"content": {"image/png": {}}, "description": "A picture"}}
_OFF = "Generation is off: no generator is configured. Set CLAIMSIGHT_GATEWAY_GENERATOR_URL to where one runs."


@router.post("/v1/generations", status_code=202, response_model=Generation)
async def generate(ask: Ask, runtime: Running, caller: Maker) -> Response:
    """Ask for pictures: 202 with a Location. What cannot be drawn is refused now, before a device works."""
    generator = runtime.clients.generator
    if generator is None:
        raise NotReady(_OFF)
    if ask.unmarked and runtime.training is None:
        raise Unprocessable(
            "unmarked pictures are for training exports and need a store of their own: the operator sets "
            "CLAIMSIGHT_GATEWAY_TRAINING_URL"
        )
    async with runtime.generation_queue.room():
        await generator.check(ask)
        generation_id = ids.new("gen")
        await runtime.photos.put_made(generation_id, ask.model_dump_json().encode())
        total = ask.steps * len(ask.prompts)
        said = ask.model_dump(mode="json", exclude={"inpaint": {"photo", "mask"}})
        await runtime.generations.accept(
            generation_id, tenant=caller.tenant, key_id=caller.key_id, ask=said, total=total
        )
    log.info(
        "audit: generation asked for",
        generation=generation_id,
        tenant=caller.tenant,
        key=caller.key_id,
        prompts=ask.prompts,
        seed=ask.seed,
    )
    try:
        await runtime.generation_queue.add(generation_id, GenerationJob(generation_id).to_json())
    except NotReady:
        log.warning("generation accepted while the queue is away; a worker queues it", generation=generation_id)
    shown = show.generation(await _load(runtime, caller, generation_id))
    return JSONResponse(shown.model_dump(mode="json"), 202, {"Location": f"/v1/generations/{generation_id}"})


@router.get("/v1/generations/{generation_id}")
async def read(generation_id: str, runtime: Running, caller: Maker) -> Generation:
    """How far it is; with its pictures once they are registered."""
    return show.generation(await _load(runtime, caller, generation_id))


@router.get("/v1/generations")
async def listed(
    runtime: Running,
    caller: Maker,
    page_size: Annotated[int, Query(ge=1, le=100)] = 20,
    page_token: Annotated[str | None, Query(max_length=100)] = None,
) -> GenerationList:
    """Newest first."""
    before = None if page_token is None else paging.opened("gen", page_token)
    rows = await runtime.generations.list(caller.tenant, limit=page_size + 1, before=before)
    page, more = rows[:page_size], len(rows) > page_size
    return GenerationList(
        data=[show.generation(row) for row in page], next_page_token=paging.token(page[-1].id) if more else None
    )


@router.post("/v1/generations/{generation_id}/cancel")
async def cancel(generation_id: str, runtime: Running, caller: Maker) -> Generation:
    """Stop it after the denoising step that runs now. 409 where it is finished."""
    row = await _load(runtime, caller, generation_id)
    if not await runtime.generations.cancel(row.id):
        raise AlreadyFinished("The generation is finished; there is nothing to cancel")
    await job.stop(runtime, row.id)
    with suppress(NotReady):  # then its job holds another's place until a worker finds it ended
        await runtime.generation_queue.forget(row.id)
    await runtime.signals.publish(row.id)
    return show.generation(await _load(runtime, caller, generation_id))


@router.get("/v1/generations/{generation_id}/images/{number}.png", response_class=Response, responses=_PNG)  # type: ignore[arg-type]
async def image(
    generation_id: str, number: Annotated[int, Path(ge=0, le=64)], runtime: Running, caller: Maker
) -> Response:
    """The picture: signed (C2PA), with XMP, and with its corner mark unless it is a training export."""
    row = await _load(runtime, caller, generation_id)
    if number >= len(row.images):
        raise NotFound("The generation has no such picture")
    store = job.store_of(runtime, unmarked=bool(row.ask["unmarked"]))
    return Response(await _kept(store, row.images[number].id), media_type="image/png")


@router.get("/v1/generations/{generation_id}/{which}.png", response_class=Response, responses=_PNG)  # type: ignore[arg-type]
async def source(generation_id: str, which: Literal["clean", "mask"], runtime: Running, caller: Maker) -> Response:
    """Of a painted picture: the photo before (`clean`, as large as the picture) and the exact `mask`."""
    row = await _load(runtime, caller, generation_id)
    if row.ask["inpaint"] is None:
        raise NotFound("Nothing was painted into a photo here")
    ask = Ask.model_validate_json(await _kept(runtime.photos, row.id))
    assert ask.inpaint is not None
    data = ask.inpaint.mask if which == "mask" else await asyncio.to_thread(show.clean, ask.inpaint.photo)
    return Response(data, media_type="image/png")


async def _kept(store: PhotoStore, made_id: str) -> bytes:
    try:
        return await store.get_made(made_id)
    except LookupError as error:
        raise NotFound("The picture is no longer kept") from error


async def _load(runtime: Runtime, caller: Caller, generation_id: str) -> generation_rows.Generation:
    row = None
    if ids.valid("gen", generation_id):
        row = await runtime.generations.load(generation_id, tenant=caller.tenant)
    if row is None:
        raise NotFound("There is no such generation. Their ids look like gen_ and 26 letters and digits")
    return row
