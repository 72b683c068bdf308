"""Reading claims: one, many, and the pictures of their photos."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from pydantic import AwareDatetime
from starlette.responses import Response

from services.common.serving.disconnect import while_connected
from services.common.serving.errors import NotFound
from services.gateway import present, schemas
from services.gateway.photos import Picture
from services.gateway.records.clock import to_ms
from services.gateway.routes import paging
from services.gateway.routes.deps import ClaimId, PhotoId, Reader, Running, no_such_claim, running
from services.gateway.routes.waiting import (
    HEADERS,
    LONGEST_WAIT_S,
    current,
    etag,
    look,
    respond,
    wait_for_end,
    wait_for_news,
)

router = APIRouter(tags=["claims"])

_WEBP = {200: {"content": {"image/webp": {}}, "description": "A picture without metadata"}}


@router.get(
    "/v1/claims/{claim_id}",
    response_model=schemas.Claim,
    responses={200: {"headers": HEADERS}, 304: {"description": "Unchanged: `If-None-Match` names its state"}},
)
async def read(
    request: Request,
    claim_id: ClaimId,
    _caller: Reader,
    wait: Annotated[
        int, Query(ge=0, le=LONGEST_WAIT_S, description="seconds to wait for the end, or for a change")
    ] = 0,
    if_none_match: Annotated[str | None, Header(description="The ETag of the state that is known already")] = None,
) -> Response:
    """The claim with everything known so far.

    With `wait`, answers when the claim is final; with `If-None-Match` beside it, already when anything has changed.
    """
    runtime = running(request)  # what is asked most pays for no dependency more than it must
    known = {tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",") if tag.strip()}
    if wait:
        waiting = wait_for_news(runtime, claim_id, wait, known) if known else wait_for_end(runtime, claim_id, wait)
        state = await while_connected(request, waiting)
    else:
        state = await look(runtime, claim_id)
    if etag(state) in known or "*" in known:  # RFC 9110, section 13.1.2
        return Response(status_code=304, headers={"ETag": etag(state), "Cache-Control": "private, no-cache"})
    return await respond(runtime, claim_id, state)


@router.get("/v1/claims")
async def listed(
    *,
    runtime: Running,
    caller: Reader,
    status: schemas.ClaimStatus | None = None,
    external_ref: Annotated[
        str | None, Query(max_length=200, pattern=r"^[^\x00]*$", description="exactly as it was sent")
    ] = None,
    created_after: Annotated[AwareDatetime | None, Query(description="RFC 3339, with its offset")] = None,
    page_size: Annotated[int, Query(ge=1, le=100)] = 20,
    page_token: Annotated[str | None, Query(max_length=100, description="the last answer's next_page_token")] = None,
) -> schemas.ClaimList:
    """Claims, newest first, without their photos. `next_page_token` is there while there are more."""
    before = None if page_token is None else paging.opened("clm", page_token)
    rows = await runtime.claims.list(
        caller.tenant,
        limit=page_size + 1,
        before=before,
        status=status,
        external_ref=external_ref,
        created_after=None if created_after is None else to_ms(created_after),
    )
    page = rows[:page_size]
    more = len(rows) > page_size
    return schemas.ClaimList(
        data=[present.item(row) for row in page], next_page_token=paging.token(page[-1].id) if more else None
    )


@router.get("/v1/claims/{claim_id}/photos/{photo_id}/overlay.webp", response_class=Response, responses=_WEBP)  # type: ignore[arg-type]
async def overlay(claim_id: ClaimId, photo_id: PhotoId, runtime: Running, _caller: Reader) -> Response:
    """The photo with its findings drawn on it."""
    return await _picture(runtime, claim_id, photo_id, "overlay")


@router.get("/v1/claims/{claim_id}/photos/{photo_id}/preview.webp", response_class=Response, responses=_WEBP)  # type: ignore[arg-type]
async def preview(claim_id: ClaimId, photo_id: PhotoId, runtime: Running, _caller: Reader) -> Response:
    """The photo, upright and at most 1280 pixels wide or high, in a form every browser shows."""
    return await _picture(runtime, claim_id, photo_id, "preview")


async def _picture(runtime: Running, claim_id: str, photo_id: str, kind: Picture) -> Response:
    claim = await current(runtime, claim_id)
    photo = next((photo for photo in claim.photos if photo.id == photo_id), None)
    if photo is None:
        raise NotFound("The claim has no such photo")
    if kind not in photo.links:
        waiting = "is not assessed yet; ask again in a moment" if photo.status == "queued" else "could not be used"
        raise NotFound(f"There is no {kind}: the photo {waiting}", retry_after=1 if photo.status == "queued" else None)
    data = await runtime.pictures.get(kind, photo)
    if not await runtime.states.known(claim_id):  # it was erased while the picture was drawn, and that stays behind
        await runtime.photos.erase(photo_id)
        raise no_such_claim()
    # Findings of a finished photo never change, and its id is never used again.
    return Response(data, headers={"Cache-Control": "private, max-age=31536000, immutable"}, media_type="image/webp")
