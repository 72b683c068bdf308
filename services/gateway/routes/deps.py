"""What every route needs: the runtime, and ids that were checked before they reach a query or a path."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from services.common.serving.errors import NotFound
from services.gateway import ids
from services.gateway.callers import Caller, calling, requires
from services.gateway.runtime import Runtime


def _runtime(request: Request) -> Runtime:
    return cast(Runtime, request.app.state.runtime)


async def _claim_id(request: Request, claim_id: str) -> str:
    """Checked here for every route: the id of another tenant's claim is as unknown as one that never was."""
    if not ids.valid("clm", claim_id) or await _runtime(request).claims.owner(claim_id) != calling(request).tenant:
        raise no_such_claim()
    return claim_id


def _photo_id(photo_id: str) -> str:
    if not ids.valid("pho", photo_id):
        raise NotFound("The claim has no such photo")
    return photo_id


def no_such_claim() -> NotFound:
    return NotFound("There is no such claim. Claim ids look like clm_ and 26 letters and digits")


Running = Annotated[Runtime, Depends(_runtime)]
Reader = Annotated[Caller, Depends(requires("read"))]
Submitter = Annotated[Caller, Depends(requires("submit"))]
Admin = Annotated[Caller, Depends(requires("admin"))]
ClaimId = Annotated[str, Depends(_claim_id)]
PhotoId = Annotated[str, Depends(_photo_id)]
