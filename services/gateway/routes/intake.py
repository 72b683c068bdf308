"""`POST /v1/claims`: photos in, a claim accepted."""

from __future__ import annotations

from typing import Annotated

import structlog
from fastapi import APIRouter, Header, Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from services.common.jobs.payload import ClaimJob
from services.common.jobs.turns import Share
from services.common.serving.disconnect import while_connected
from services.common.serving.errors import NotReady
from services.gateway import fields, ids, schemas
from services.gateway.admission import admitted, in_time
from services.gateway.callers import Caller
from services.gateway.once import REPLAYED, IdempotencyKey, fingerprint, once
from services.gateway.records.models import Claim
from services.gateway.records.usage import Bounds
from services.gateway.routes.deps import Running, Submitter
from services.gateway.routes.photos_in import form, kept, named, uploaded
from services.gateway.routes.waiting import HEADERS, final, look, preferred_wait, respond, wait_for_end
from services.gateway.runtime import Runtime
from services.gateway.upload import Upload

log = structlog.get_logger(__name__)
router = APIRouter(tags=["claims"])

_BODY = form(
    external_ref={"type": "string", "maxLength": 200, "description": "Your own reference"},
    metadata={"type": "string", "description": "Your own JSON object, given back unchanged"},
    deadline_seconds={
        "type": "integer",
        "minimum": 1,
        "description": "The claim ends `expired` where it is not concluded within it; a day where it is not given",
    },
    vehicle={"type": "string", "description": "JSON: make, model, year and vin, as far as they are known"},
)
_HEADERS = (
    HEADERS
    | REPLAYED
    | {
        "Location": {"description": "Where the claim is", "schema": {"type": "string"}},
        "Preference-Applied": {"description": "The wait that was granted", "schema": {"type": "string"}},
    }
)
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
async def submit(
    request: Request,
    runtime: Running,
    caller: Submitter,
    prefer: _Prefer = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Submit a claim's photos. 202 with a Location to ask again, or 200 where `Prefer: wait=N` was long enough.

    With an `Idempotency-Key`, sending the same again makes no other claim.
    """
    async with (
        admitted(runtime, caller) as bounds,
        uploaded(runtime, request) as upload,
        once(
            runtime.idempotency,
            caller,
            idempotency_key,
            fingerprint=fingerprint("claims", *await named(upload)) if idempotency_key else "",
            new_id=ids.new("clm"),
            made=runtime.states.known,
        ) as (claim_id, made),
    ):
        accepted = None
        if not made:
            accepted = await _accept(runtime, caller, claim_id, upload, bounds)
    seconds = preferred_wait(prefer)
    headers = {"Location": f"/v1/claims/{claim_id}"}
    if made:
        headers["Idempotency-Replayed"] = "true"
    if seconds is not None:
        headers["Preference-Applied"] = f"wait={seconds}"
    try:
        if seconds:
            state = await while_connected(request, wait_for_end(runtime, claim_id, seconds))
        else:
            state = await look(runtime, claim_id)
        status = 200 if seconds is not None and final(state) else 202
        return await respond(runtime, claim_id, state, status, headers, known=accepted)
    except SQLAlchemyError as error:  # accepted all the same: sending it again would make another claim
        raise NotReady(f"The claim is accepted. Ask for {claim_id} a little later.", claim_id=claim_id) from error


async def _accept(runtime: Runtime, caller: Caller, claim_id: str, upload: Upload, bounds: Bounds) -> Claim:
    """Keep the photos, commit the claim, queue it: in this order, so that what is accepted can be assessed."""
    reference = fields.external_ref(upload.texts.get("external_ref"))
    metadata = fields.metadata(upload.texts.get("metadata"))
    vehicle = fields.vehicle(upload.texts.get("vehicle"))
    deadline_s = fields.deadline_s(upload.texts.get("deadline_seconds"), runtime.settings.claim_deadline_seconds)
    async with in_time(runtime, caller, deadline_s), kept(runtime, upload) as photos:
        claim = await runtime.claims.accept(
            claim_id,
            photos,
            tenant=caller.tenant,
            external_ref=reference,
            metadata=metadata,
            vehicle=vehicle,
            bounds=bounds,
            deadline_s=deadline_s,
        )
    try:
        await runtime.queue.add(claim_id, ClaimJob(claim_id).to_json(), Share(caller.tenant, len(photos)))
    except NotReady:
        log.warning("claim accepted while the queue is away; a worker queues it from the records", claim=claim_id)
    return claim
