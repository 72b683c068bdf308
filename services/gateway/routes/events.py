"""`GET /v1/claims/{id}/events`: a claim's progress as server-sent events, resumed where a connection broke.

Nothing is stored for it. An event's id says what has been told so far (the claim's status and which photos), so any
gateway goes on from any id, also after a restart. No photo is told twice, and none is left out.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from services.common.serving.errors import NotFound
from services.gateway import present, schemas
from services.gateway.routes.deps import ClaimId, Reader, Running
from services.gateway.routes.waiting import current, final
from services.gateway.runtime import Runtime

router = APIRouter(tags=["claims"])

_HEARTBEAT_S = 15.0  # proxies cut connections that are silent for half a minute or more
_LOOK_AGAIN_S = 3.0  # in case the hint that something changed was lost
_RETRY_MS = 1000
_CURSOR = re.compile(r"([a-z]{1,16})\.([0-9a-f]{1,64})")
_EXAMPLE = "event: status\ndata: {...}\nid: processing.1\n\nevent: photo\ndata: {...}\nid: processing.3\n\n"


class ClaimState(schemas.Api):
    """What a `status` event says."""

    id: str
    status: schemas.ClaimStatus
    progress: schemas.Progress
    queue: schemas.QueuePlace | None


@router.get(
    "/v1/claims/{claim_id}/events",
    response_class=Response,
    responses={
        200: {"content": {"text/event-stream": {"example": _EXAMPLE}}, "description": "The stream"},
        204: {"description": "`Last-Event-ID` is the last there will be: do not connect again"},
    },
)
async def events(
    claim_id: ClaimId,
    runtime: Running,
    _caller: Reader,
    last_event_id: Annotated[str | None, Header(description="The id of the last event that was received")] = None,
) -> Response:
    """The claim's progress as it happens (server-sent events).

    `status` comes first and whenever status, progress or place in the queue change; `photo`, with its findings, as each
    photo is done; `final`, with the summary, at the end. Comments keep the connection open. Browsers' `EventSource`
    connects again by itself; other clients send the last id they saw as `Last-Event-ID`.
    """
    status, told = _opened(last_event_id)
    if status in present.FINAL:
        return Response(status_code=204)
    return StreamingResponse(
        _stream(runtime, claim_id, told),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _stream(runtime: Runtime, claim_id: str, told: int) -> AsyncIterator[bytes]:
    """`told`: one bit for each photo that the client has, by position."""
    last: ClaimState | None = None
    silent_s = 0.0
    with runtime.signals.subscribe(claim_id) as changed, suppress(NotFound):  # erased meanwhile: the stream just ends
        while not runtime.signals.ending:
            changed.clear()  # before looking: a change after the look wakes us
            claim = await current(runtime, claim_id)
            state = ClaimState(id=claim.id, status=claim.status, progress=claim.progress, queue=claim.queue)
            if state != last:
                yield _event("status", state, "processing" if final(claim) else claim.status, told)
                last, silent_s = state, 0.0
            for position, photo in enumerate(claim.photos):
                if photo.status != "queued" and not told >> position & 1:
                    told |= 1 << position
                    yield _event("photo", photo, "processing", told)
            if final(claim):
                item = schemas.ClaimItem.model_validate(claim.model_dump(include=set(schemas.ClaimItem.model_fields)))
                yield _event("final", item, claim.status, told)
                return
            if silent_s >= _HEARTBEAT_S:
                yield KEEPALIVE_COMMENT
                silent_s = 0.0
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), _LOOK_AGAIN_S)
            silent_s += _LOOK_AGAIN_S


def _event(name: str, data: BaseModel, status: str, told: int) -> bytes:
    return format_sse_event(data_str=data.model_dump_json(), event=name, id=f"{status}.{told:x}", retry=_RETRY_MS)


def _opened(cursor: str | None) -> tuple[str, int]:
    """Status and told photos of an event's id; what is no id of ours tells the whole story again."""
    found = _CURSOR.fullmatch(cursor or "")
    return (found[1], int(found[2], 16)) if found else ("", 0)
