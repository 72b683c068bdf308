"""`POST /v1/claims/{id}/photos/{id}/findings`: a damage that the models have missed, drawn by a person."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from services.gateway.reviews import desk, present
from services.gateway.reviews.schemas import Case, Drawn
from services.gateway.routes.deps import ClaimId, PhotoId, Running
from services.gateway.routes.reviews import ETAG, Reviewing, answer

router = APIRouter(tags=["reviews"])


@router.post(
    "/v1/claims/{claim_id}/photos/{photo_id}/findings",
    response_model=Case,
    status_code=201,
    responses={201: {"headers": ETAG}, 409: {"description": "The photo was not assessed (`not-finished`)"}},
)
async def add(runtime: Running, caller: Reviewing, claim_id: ClaimId, photo_id: PhotoId, drawn: Drawn) -> Response:
    """Add a damage. It stands in the claim with `source: human`; `undo` of its review takes it away again."""
    return answer(present.case(*await desk.add(runtime, caller, claim_id, photo_id, drawn)), status=201)
