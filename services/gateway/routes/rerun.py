"""`POST /v1/claims/{id}/rerun`: once what made a claim fail is repaired, it is worked on again under its own id."""

from __future__ import annotations

import structlog
from fastapi import APIRouter
from starlette.responses import Response

from services.common.jobs.payload import ClaimJob
from services.common.serving.errors import NotFailed, NotReady
from services.gateway import schemas
from services.gateway.routes.deps import Admin, ClaimId, Running
from services.gateway.routes.waiting import HEADERS, look, respond

log = structlog.get_logger(__name__)
router = APIRouter(tags=["claims"])


@router.post(
    "/v1/claims/{claim_id}/rerun",
    status_code=202,
    response_model=schemas.Claim,
    responses={202: {"headers": HEADERS}},
)
async def rerun(claim_id: ClaimId, runtime: Running, _caller: Admin) -> Response:
    """Work on a failed claim once more. `GET /v1/claims?status=failed` lists them, with what each failed of.

    The only way back from a final status: its end is told again, as an event of its own.
    """
    if await runtime.queue.state(claim_id) == "failed":
        await runtime.queue.forget(claim_id)  # under the id of its dead job no other could be queued
    share = await runtime.attempts.reopen(claim_id)
    if share is None:
        raise NotFailed("Only a failed claim can be worked on again, and this one is not.")
    try:
        await runtime.queue.add(claim_id, ClaimJob(claim_id).to_json(), share)
    except NotReady:  # it is open again: a 503 would have this sent once more, and refused
        log.warning("claim opened again while the queue is away; a worker queues it from the records", claim=claim_id)
    await runtime.signals.publish(claim_id)
    return await respond(runtime, claim_id, await look(runtime, claim_id), 202)
