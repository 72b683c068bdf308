"""Answers at once, without a claim: is this photo worth sending, what is on it, which past cases resemble it.

Nothing is kept and nothing is queued. A few requests are worked on at a time, so that these routes can neither starve
claims nor be starved by each other.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Query, Request

from services.common.serving.disconnect import while_connected
from services.common.serving.errors import PayloadTooLarge, Unprocessable
from services.common.serving.schemas import Box
from services.common.vision.photo import PhotoError
from services.gateway import failures, ids, instant_schemas, schemas
from services.gateway.assessment import quality
from services.gateway.assessment.pipeline import Assessment, assess, opened
from services.gateway.assessment.route import summarise
from services.gateway.assessment.similar import similar
from services.gateway.callers import Caller, Requires
from services.gateway.routes.deps import Running
from services.gateway.runtime import Runtime
from services.gateway.upload import receive

T = TypeVar("T")
router = APIRouter(tags=["at once"])
Submitter = Annotated[Caller, Depends(Requires("submit"))]
Reader = Annotated[Caller, Depends(Requires("read"))]

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["photo"],
                    "properties": {
                        "photo": {"type": "string", "format": "binary", "description": "JPEG, PNG, WebP or HEIC"}
                    },
                }
            }
        },
    }
}


@router.post("/v1/photos:check", openapi_extra=_BODY)
async def check(request: Request, runtime: Running, caller: Submitter) -> instant_schemas.PhotoCheck:
    """Is the photo worth sending? Size, light, glare and sharpness in milliseconds, with advice for another try."""
    data = await _photo(request, runtime)
    async with runtime.checks.turn():
        found = await _usable(asyncio.to_thread(quality.check, data, max_pixels=runtime.settings.max_photo_pixels))
    return instant_schemas.PhotoCheck(
        verdict=found.verdict,
        issues=found.issues,
        sha256=found.sha256,
        bytes=len(data),
        width=found.width,
        height=found.height,
        measures=found.measures,
    )


@router.post("/v1/damage:analyze", openapi_extra=_BODY)
async def analyze(request: Request, runtime: Running, caller: Submitter) -> instant_schemas.Analysis:
    """One photo's findings at once; nothing is kept. For real claims use `POST /v1/claims`, which survives faults."""
    data = await _photo(request, runtime)
    async with runtime.analyses.turn():
        await runtime.rules.follow()
        opening = opened(data, runtime.policy)
        work = _usable(assess(opening, runtime.clients.pinned(), runtime.policy, tenant=caller.tenant, claim_id=""))
        found = await while_connected(request, work)
    photo = _presented(found, data)
    return instant_schemas.Analysis(photo=photo, summary=summarise([photo]), models=found.models)


@router.post("/v1/similar", openapi_extra=_BODY)
async def similar_cases(
    request: Request,
    runtime: Running,
    caller: Reader,
    k: Annotated[int, Query(ge=1, le=100, description="cases per region")] = 10,
    box: Annotated[
        str | None,
        Query(max_length=100, description="a region, x0,y0,x1,y1 in [0, 1]; without it, each damage that is found"),
    ] = None,
) -> instant_schemas.SimilarCases:
    """The past cases that look most like the damages on a photo, or like one region of it."""
    region = None if box is None else _region(box)
    data = await _photo(request, runtime)
    async with runtime.analyses.turn():
        await runtime.rules.follow()
        work = _usable(similar(data, region, runtime.clients.pinned(), runtime.policy, k=k, tenant=caller.tenant))
        return await while_connected(request, work)


async def _photo(request: Request, runtime: Runtime) -> bytes:
    settings = runtime.settings
    async with receive(request, max_photos=1, max_photo_bytes=settings.max_photo_bytes) as upload:
        if not upload.photos or upload.photos[0].url is not None:
            raise Unprocessable("There is no photo; send one, for example: curl -F photo=@car.jpg")
        if upload.photos[0].too_large:
            raise PayloadTooLarge(f"A photo may have {settings.max_photo_bytes} bytes. Send a smaller one.")
        return await asyncio.to_thread(upload.photos[0].read)


async def _usable(work: Coroutine[None, None, T]) -> T:
    """The result; a photo that cannot be used is the request's own problem here."""
    try:
        return await work
    except PhotoError as error:
        raise failures.photo_problem(error) from error


def _region(text: str) -> Box:
    try:
        x0, y0, x1, y1 = (float(number) for number in text.split(","))
    except ValueError:
        x0 = y0 = x1 = y1 = -1.0
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise Unprocessable("box takes x0,y0,x1,y1 within [0, 1], for example box=0.2,0.3,0.5,0.6")
    return x0, y0, x1, y1


def _presented(found: Assessment, data: bytes) -> schemas.Photo:
    return schemas.Photo(
        id=ids.new("pho"),
        status="succeeded",
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        width=found.width,
        height=found.height,
        vehicle=found.vehicle,
        findings=found.findings,
        parts=found.parts,
        lookalikes=found.lookalikes,
        reasons=found.reasons,
        timings_ms=found.timings_ms,
    )
