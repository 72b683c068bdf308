"""`POST /v1/claims`: photos in, a claim accepted.

A photo that cannot be used fails alone, and the claim goes on with the others. Only where no photo at all can be used
is the request refused: the caller then knows at once, and nothing is kept.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated

import structlog
from fastapi import APIRouter, Header, Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from services.common.jobs.payload import ClaimJob
from services.common.jobs.turns import Share
from services.common.serving import errors
from services.common.serving.disconnect import while_connected
from services.common.serving.errors import NotReady, PayloadTooLarge, Problem
from services.common.vision.photo import PhotoError, check_photo
from services.gateway import failures, fields, ids, schemas
from services.gateway.admission import admitted
from services.gateway.callers import Caller
from services.gateway.records.store import NewPhoto
from services.gateway.records.usage import Bounds
from services.gateway.routes.deps import Running, Submitter
from services.gateway.routes.waiting import HEADERS, final, preferred_wait, respond, wait_for_end
from services.gateway.runtime import Runtime
from services.gateway.upload import Received, Upload, receive

log = structlog.get_logger(__name__)
router = APIRouter(tags=["claims"])

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["photos"],
                    "properties": {
                        "photos": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "JPEG, PNG, WebP or HEIC; repeat the field for each photo",
                        },
                        "external_ref": {"type": "string", "maxLength": 200, "description": "Your own reference"},
                        "metadata": {"type": "string", "description": "Your own JSON object, given back unchanged"},
                    },
                }
            }
        },
    }
}
_HEADERS = HEADERS | {
    "Location": {"description": "Where the claim is", "schema": {"type": "string"}},
    "Preference-Applied": {"description": "The wait that was granted", "schema": {"type": "string"}},
}
_Prefer = Annotated[
    str | None, Header(description="wait=N: answer when the claim is final, after N seconds at the latest (RFC 7240)")
]


@router.post(
    "/v1/claims",
    status_code=202,
    response_model=schemas.Claim,
    responses={
        200: {"model": schemas.Claim, "description": "Finished within the time of `Prefer: wait`", "headers": _HEADERS},
        202: {"description": "Accepted; ask again at Location", "headers": _HEADERS},
    },
    openapi_extra=_BODY,
)
async def submit(request: Request, runtime: Running, caller: Submitter, prefer: _Prefer = None) -> Response:
    """Submit a claim's photos. 202 with a Location to ask again, or 200 where `Prefer: wait=N` was long enough."""
    settings = runtime.settings
    async with (
        admitted(runtime, caller) as bounds,
        receive(request, max_photos=settings.max_photos, max_photo_bytes=settings.max_photo_bytes) as upload,
    ):
        claim_id = await _accept(runtime, caller, upload, bounds)
    seconds = preferred_wait(prefer)
    try:
        claim = await while_connected(request, wait_for_end(runtime, claim_id, seconds or 0))
    except SQLAlchemyError as error:  # accepted all the same: sending it again would make another claim
        raise NotReady(f"The claim is accepted. Ask for {claim_id} a little later.", claim_id=claim_id) from error
    headers = {"Location": f"/v1/claims/{claim_id}"}
    if seconds is not None:
        headers["Preference-Applied"] = f"wait={seconds}"
    return respond(claim, 200 if seconds is not None and final(claim) else 202, headers)


async def _accept(runtime: Runtime, caller: Caller, upload: Upload, bounds: Bounds) -> str:
    """Keep the photos, commit the claim, queue it: in this order, so that what is accepted can be assessed."""
    reference = fields.external_ref(upload.texts.get("external_ref"))
    metadata = fields.metadata(upload.texts.get("metadata"))
    if not upload.photos:
        raise errors.Unprocessable("The claim has no photo; send at least one, for example: curl -F photos=@car.jpg")
    problems = [await _problem(runtime, photo) for photo in upload.photos]
    if all(problems):
        raise _none_usable([problem for problem in problems if problem])
    claim_id = ids.new("clm")
    photos: list[NewPhoto] = []
    try:
        for each in zip(upload.photos, problems, strict=True):
            photos.append(await _keep(runtime, *each))
        await runtime.claims.accept(
            claim_id, photos, tenant=caller.tenant, external_ref=reference, metadata=metadata, bounds=bounds
        )
    except Exception:
        await _drop(runtime, photos)
        raise
    try:
        await runtime.queue.add(claim_id, ClaimJob(claim_id).to_json(), Share(caller.tenant, len(photos)))
    except NotReady:
        log.warning("claim accepted while the queue is away; a worker queues it from the records", claim=claim_id)
    return claim_id


async def _problem(runtime: Runtime, photo: Received) -> Problem | None:
    """What is wrong with a photo as far as its size and its header tell."""
    if photo.too_large:
        limit = runtime.settings.max_photo_bytes
        return PayloadTooLarge(f"The photo has {photo.size} bytes; {limit} are allowed. Send a smaller one.")
    data = await photo.read()
    try:
        await asyncio.to_thread(check_photo, data, max_pixels=runtime.settings.max_photo_pixels)
    except PhotoError as error:
        return failures.photo_problem(error)
    return None


async def _keep(runtime: Runtime, photo: Received, problem: Problem | None) -> NewPhoto:
    photo_id = ids.new("pho")
    if problem is not None:
        return NewPhoto(photo_id, None, photo.size, failures.embedded(problem))
    return NewPhoto(photo_id, await runtime.photos.put_photo(photo_id, await photo.read()), photo.size)


async def _drop(runtime: Runtime, photos: list[NewPhoto]) -> None:
    """Nothing half-accepted stays."""
    with suppress(NotReady):
        for photo in photos:
            await runtime.photos.erase(photo.id)


def _none_usable(problems: list[Problem]) -> Problem:
    """The first photo's problem, with every photo's beside it."""
    first = problems[0]
    first.extra = {"photos": [failures.embedded(each).model_dump() for each in problems]}
    return first
