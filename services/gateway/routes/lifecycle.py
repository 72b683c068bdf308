"""What becomes of a claim after it was sent: more photos, cancelling, erasing, evidence."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from services.common.serving.errors import AlreadyFinished, NotFinished, TooManyPhotos
from services.gateway import eraser, evidence, ids, present, schemas, withdrawn
from services.gateway.admission import admitted
from services.gateway.once import IdempotencyKey, fingerprint, once
from services.gateway.records.changes import Finished, TooMany
from services.gateway.records.clock import to_datetime
from services.gateway.records.erasures import Erasure
from services.gateway.routes.deps import ClaimId, Reader, Running, Submitter, no_such_claim
from services.gateway.routes.photos_in import form, kept, named, uploaded
from services.gateway.routes.waiting import HEADERS, look, respond

router = APIRouter(tags=["claims"])


class Erased(schemas.Api):
    """How much there was of each."""

    photos: int
    findings: int
    decisions: int = Field(description="People's decisions; what the memory had learned from them is taken back")
    files: int = Field(description="Photos, overlays and previews in the photo store; 0 while `pending`")


class Receipt(schemas.Api):
    """That a claim was erased. It is `pending` while the photo store or the memory cannot be reached."""

    id: str
    object: Literal["erasure"] = "erasure"
    claim_id: str
    status: Literal["pending", "done"]
    requested_at: datetime
    completed_at: datetime | None
    erased: Erased


@router.post(
    "/v1/claims/{claim_id}/photos",
    status_code=202,
    response_model=schemas.Claim,
    responses={202: {"headers": HEADERS}},
    openapi_extra=form(),
)
async def add(
    request: Request, claim_id: ClaimId, runtime: Running, caller: Submitter, idempotency_key: IdempotencyKey = None
) -> Response:
    """Add photos to a claim that is not finished: a close-up after the overview. It is not finished without them."""
    settings = runtime.settings
    async with (
        admitted(runtime, caller, new_claim=False) as bounds,
        uploaded(runtime, request) as upload,
        once(
            runtime.idempotency,
            caller,
            idempotency_key,
            fingerprint=fingerprint("photos", claim_id, *await named(upload)),
            new_id=ids.new("pho"),
            made=runtime.changes.has_photo,
        ) as (first_id, made),
    ):
        if not made:
            async with kept(runtime, upload, first_id) as photos:
                try:
                    await runtime.changes.add_photos(
                        claim_id, photos, tenant=caller.tenant, at_most=settings.max_photos, bounds=bounds
                    )
                except Finished:
                    raise AlreadyFinished("The claim is finished. Send these photos as another claim.") from None
                except TooMany:
                    raise TooManyPhotos(f"A claim takes {settings.max_photos} photos, all together.") from None
    await runtime.signals.publish(claim_id)
    return await respond(runtime, claim_id, await look(runtime, claim_id), 202)


@router.post("/v1/claims/{claim_id}/cancel", response_model=schemas.Claim)
async def cancel(claim_id: ClaimId, runtime: Running, _caller: Submitter) -> Response:
    """Stop working on the claim; what was assessed stays. Cancelling twice is once, a finished claim is 409."""
    try:
        await runtime.changes.cancel(claim_id)
        await withdrawn.tell(runtime, claim_id)
    except Finished:
        if (await look(runtime, claim_id)).status != "canceled":
            raise AlreadyFinished("The claim is finished, there is nothing to cancel. DELETE erases it.") from None
    return await respond(runtime, claim_id, await look(runtime, claim_id))


@router.delete("/v1/claims/{claim_id}")
async def erase(claim_id: str, runtime: Running, caller: Submitter) -> Receipt:
    """Erase the claim whatever its status: rows, photos, overlays, and what was learned from it.

    The receipt stays; asking again gives it again.
    """
    erasure = None
    if ids.valid("clm", claim_id):
        erasure = await eraser.erase(runtime, claim_id, caller.tenant, "request", caller.key_id)
        erasure = erasure or await runtime.erasures.of(claim_id, caller.tenant)
    if erasure is None:
        raise no_such_claim()
    return _receipt(erasure)


_BUNDLE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Canonical JSON (RFC 8785) and its SHA-256",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["evidence", "sha256"],
                    "properties": {"evidence": {"type": "object"}, "sha256": {"type": "string"}},
                }
            }
        },
    }
}


@router.get("/v1/claims/{claim_id}/evidence", response_class=Response, responses=_BUNDLE)
async def prove(claim_id: ClaimId, runtime: Running, _caller: Reader) -> Response:
    """What a finished claim's answer rests on: the photos' hashes, every finding, which models and settings said it."""
    row = await runtime.claims.load(claim_id)
    if row is None:
        raise no_such_claim()
    if row.status not in present.FINAL:
        raise NotFinished("There is evidence once the claim is finished.", retry_after=await runtime.drain.seconds(1))
    headers = {"Cache-Control": "private, no-cache", "Content-Disposition": f'attachment; filename="{claim_id}.json"'}
    return Response(evidence.bundle(row), headers=headers, media_type="application/json")


def _receipt(erasure: Erasure) -> Receipt:
    return Receipt(
        id=erasure.id,
        claim_id=erasure.claim_id,
        status="pending" if erasure.completed_at is None else "done",
        requested_at=to_datetime(erasure.requested_at),
        completed_at=None if erasure.completed_at is None else to_datetime(erasure.completed_at),
        erased=Erased.model_validate(erasure.erased),
    )
