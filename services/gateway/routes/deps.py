"""What every route needs: the runtime, and ids that were checked before they reach a query or a path.

All are coroutines: FastAPI runs a dependency that is none in another thread, and for these the way there costs more.
"""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from services.common.serving.errors import NotFound
from services.gateway import ids
from services.gateway.callers import Caller, Requires, calling
from services.gateway.runtime import Runtime


def running(request: Request) -> Runtime:
    """What the gateway holds while it runs."""
    return cast(Runtime, request.app.state.runtime)


async def _runtime(request: Request) -> Runtime:
    return running(request)


Running = Annotated[Runtime, Depends(_runtime)]


async def _claim_id(request: Request, claim_id: str) -> str:
    """Checked here for every route: the id of another tenant's claim is as unknown as one that never was."""
    runtime = running(request)
    if not ids.valid("clm", claim_id) or await runtime.states.owner(claim_id) != calling(request).tenant:
        raise no_such_claim()
    return claim_id


async def _photo_id(photo_id: str) -> str:
    if not ids.valid("pho", photo_id):
        raise NotFound("The claim has no such photo")
    return photo_id


def no_such_claim() -> NotFound:
    return NotFound("There is no such claim. Claim ids look like clm_ and 26 letters and digits")


Reader = Annotated[Caller, Depends(Requires("read"))]
Submitter = Annotated[Caller, Depends(Requires("submit"))]
Admin = Annotated[Caller, Depends(Requires("admin"))]
ClaimId = Annotated[str, Depends(_claim_id)]
PhotoId = Annotated[str, Depends(_photo_id)]
