"""`/v1/batches`: thousands of photos as archives and a manifest, assessed behind all interactive claims."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from services.common.serving.errors import BatchUnfinished
from services.gateway import batch_schemas, fields, ids
from services.gateway.batches import feeder, manifest, parts, present, results
from services.gateway.once import REPLAYED, IdempotencyKey, fingerprint, once
from services.gateway.records.batch_rows import Batch
from services.gateway.records.batches import no_such_batch
from services.gateway.routes import paging
from services.gateway.routes.deps import Reader, Running, Submitter
from services.gateway.runtime import Runtime

router = APIRouter(tags=["batches"])
_MOST_PARTS = 10_000


async def _batch_id(batch_id: str) -> str:
    if not ids.valid("bat", batch_id):
        raise no_such_batch()
    return batch_id


BatchId = Annotated[str, Depends(_batch_id)]


def _body(*kinds: str, what: str) -> dict[str, object]:
    schema = {"schema": {"type": "string", "format": "binary", "description": what}}
    return {"requestBody": {"required": True, "content": dict.fromkeys(kinds, schema)}}


@router.post("/v1/batches", status_code=201, responses={201: {"headers": REPLAYED}})
async def create(
    runtime: Running,
    caller: Submitter,
    response: Response,
    new: batch_schemas.NewBatch,
    idempotency_key: IdempotencyKey = None,
) -> batch_schemas.Batch:
    """An empty batch: put parts with photos, put a manifest or none, then start it. It waits a week to be started.

    With an `Idempotency-Key`, sending the same again makes no other batch.
    """
    reference = None if new.external_ref is None else fields.external_ref(new.external_ref.encode(errors="replace"))
    metadata = fields.checked(new.metadata)
    async with once(
        runtime.idempotency,
        caller,
        idempotency_key,
        fingerprint=fingerprint("batches", reference, json.dumps(metadata, sort_keys=True)),
        new_id=ids.new("bat"),
        made=runtime.batches.known,
    ) as (batch_id, made):
        if not made:
            await runtime.batches.create(batch_id, tenant=caller.tenant, external_ref=reference, metadata=metadata)
    response.headers["Location"] = f"/v1/batches/{batch_id}"
    if made:
        response.headers["Idempotency-Replayed"] = "true"
    return await _shown(runtime, await runtime.batches.load(batch_id, caller.tenant))


@router.get("/v1/batches")
async def listed(
    runtime: Running,
    caller: Reader,
    page_size: Annotated[int, Query(ge=1, le=100)] = 20,
    page_token: Annotated[str | None, Query(max_length=100, description="the last answer's next_page_token")] = None,
) -> batch_schemas.BatchList:
    """Batches, newest first. `next_page_token` is there while there are more."""
    before = None if page_token is None else paging.opened("bat", page_token)
    rows = await runtime.batches.list(tenant=caller.tenant, limit=page_size + 1, before=before)
    more = paging.token(rows[page_size - 1].id) if len(rows) > page_size else None
    return batch_schemas.BatchList(data=[present.item(row) for row in rows[:page_size]], next_page_token=more)


@router.get("/v1/batches/{batch_id}")
async def read(runtime: Running, caller: Reader, response: Response, batch_id: BatchId) -> batch_schemas.Batch:
    """The batch: what has arrived of it, and how far it is."""
    shown = await _shown(runtime, await runtime.batches.load(batch_id, caller.tenant))
    if shown.status == "processing":
        left = shown.progress.total - shown.progress.done
        response.headers["Retry-After"] = str(min(30, max(1, left // 50)))  # about what a core assesses meanwhile
    return shown


@router.put(
    "/v1/batches/{batch_id}/parts/{number}",
    openapi_extra=_body("application/x-tar", "application/zip", what="Photos; names and folders are yours to choose"),
)
async def put_part(
    request: Request,
    runtime: Running,
    caller: Submitter,
    batch_id: BatchId,
    number: Annotated[int, Path(ge=1, le=_MOST_PARTS, description="yours to choose")],
) -> batch_schemas.Batch:
    """One archive (tar or zip) of photos, at most as large as a claim. Send it again where the connection broke.

    A part that has arrived is never half there: `parts` lists those that are. Sending one again under its number
    replaces it.
    """
    batch = await runtime.batches.load(batch_id, caller.tenant)
    async with parts.spooled(request) as body:
        known = {part.number: part.sha256 for part in await runtime.batches.parts(batch_id)}
        if known.get(number) != body.sha256:
            async with runtime.archives.turn():
                await parts.receive(runtime, batch_id, number, body)
    return await _shown(runtime, batch)


@router.put(
    "/v1/batches/{batch_id}/manifest",
    openapi_extra=_body("application/jsonl", what='{"id": "claim-1", "photos": ["a.jpg", "b.jpg"]} on each line'),
)
async def put_manifest(request: Request, runtime: Running, caller: Submitter, batch_id: BatchId) -> batch_schemas.Batch:
    """Which photos make which claim, as JSON Lines; replaces an earlier one. Without any, each photo is a claim."""
    batch = await runtime.batches.load(batch_id, caller.tenant)
    async with parts.spooled(request) as body, runtime.archives.turn():
        rows = manifest.lines(body.file, max_photos=runtime.settings.max_photos)
        await runtime.batches.put_manifest(batch_id, rows)
    return await _shown(runtime, batch)


@router.post("/v1/batches/{batch_id}/start", status_code=202)
async def start(runtime: Running, caller: Submitter, batch_id: BatchId) -> batch_schemas.Batch:
    """Begin; nothing can be added from here on."""
    await runtime.batches.load(batch_id, caller.tenant)
    await runtime.batches.start(batch_id)
    await runtime.signals.publish(feeder.STARTED)
    return await _shown(runtime, await runtime.batches.load(batch_id, caller.tenant))


@router.post("/v1/batches/{batch_id}/cancel")
async def cancel(runtime: Running, caller: Submitter, batch_id: BatchId) -> batch_schemas.Batch:
    """Make no more claims of it, and cancel those under way. What was assessed stays; canceling twice is once."""
    batch = await runtime.batches.load(batch_id, caller.tenant)
    if batch.status in ("uploading", "processing", "canceled"):
        await feeder.cancel(runtime, batch_id)
    return await _shown(runtime, await runtime.batches.load(batch_id, caller.tenant))


@router.get(
    "/v1/batches/{batch_id}/results.jsonl",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "A line for each line of the manifest that has ended, as `LineResult`",
            "content": {"application/jsonl": {"schema": {"type": "string"}}},
        }
    },
)
async def results_jsonl(runtime: Running, caller: Reader, batch_id: BatchId) -> Response:
    """Results, one JSON object a line, in the manifest's order; those so far while the batch is processed."""
    batch = await runtime.batches.load(batch_id, caller.tenant)
    return StreamingResponse(results.jsonl(runtime.batch_work, batch), media_type="application/jsonl")


@router.get(
    "/v1/batches/{batch_id}/results.coco.json",
    response_class=StreamingResponse,
    responses={200: {"description": "A COCO file", "content": {"application/json": {"schema": {"type": "object"}}}}},
)
async def results_coco(runtime: Running, caller: Reader, batch_id: BatchId) -> Response:
    """Results as a COCO file with masks of the photos' own size, once the batch is final."""
    batch = await runtime.batches.load(batch_id, caller.tenant)
    if batch.status not in present.FINAL:
        raise BatchUnfinished("The COCO file is there when the batch has ended. results.jsonl has what is done so far.")
    return StreamingResponse(results.coco(runtime.batch_work, batch), media_type="application/json")


async def _shown(runtime: Runtime, batch: Batch) -> batch_schemas.Batch:
    counts = await runtime.batches.counts(batch.id)
    return present.batch(batch, counts, await runtime.batches.parts(batch.id))
