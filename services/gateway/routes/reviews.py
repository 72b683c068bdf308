"""`/v1/reviews`: the queue of findings that a person should look at, and what people decide about them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Path, Query
from starlette.responses import Response

from services.common.serving.errors import InvalidRequest, NotFound, PreconditionRequired
from services.gateway import ids
from services.gateway.callers import Caller, Requires
from services.gateway.reviews import desk, present
from services.gateway.reviews.schemas import (
    Case,
    HeldCase,
    History,
    PastCase,
    PastCases,
    Progress,
    Queue,
    Release,
    Take,
    Verdict,
    Who,
)
from services.gateway.routes.deps import Running

router = APIRouter(tags=["reviews"])

_SIMILAR = 6
ETAG = {"ETag": {"description": "The case's version, for `If-Match`", "schema": {"type": "string"}}}
_HELD = {"description": "Somebody else has it open (`review-held`): `held_by`, `held_until`"}
_CHANGED = {"description": "It was decided, or a decision was undone, since it was read (`review-changed`)"}
_MISSING = {"description": "`If-Match` is missing (`precondition-required`)"}


async def _case_id(
    case_id: Annotated[
        str, Path(description="a finding's id, or a claim's", examples=["fnd_01M8E5Y7Q2Z4T6V8X0A1B2C3D4"])
    ],
) -> str:
    if not (ids.valid("fnd", case_id) or ids.valid("clm", case_id)):
        raise NotFound("There is no such case. Its id is that of a finding (fnd_...) or of a claim (clm_...)")
    return case_id


async def _version(
    if_match: Annotated[str | None, Header(description="the ETag of the case as it was read", examples=['"3"'])] = None,
) -> int:
    if if_match is None:
        raise PreconditionRequired("Send If-Match with the ETag of the case, so that nobody's decision is overwritten.")
    found = re.fullmatch(r'(?:W/)?"(\d{1,9})"', if_match.strip())
    if found is None:
        raise InvalidRequest('If-Match takes the ETag of the case, for example "3"')
    return int(found[1])


CaseId = Annotated[str, Depends(_case_id)]
Version = Annotated[int, Depends(_version)]
Reviewing = Annotated[Caller, Depends(Requires("review"))]


@router.get("/v1/reviews")
async def queue(
    runtime: Running,
    caller: Reviewing,
    state: Literal["open", "done"] = "open",
    page_size: Annotated[int, Query(ge=1, le=100)] = 20,
    page_token: Annotated[
        str | None, Query(pattern=r"^\d{1,9}$", description="the last answer's next_page_token")
    ] = None,
) -> Queue:
    """Findings and claims that wait for a person, the most informative first; those that were skipped come later."""
    start = int(page_token or 0)
    rows = await runtime.reviews.list(caller.tenant, state=state, limit=page_size + 1, offset=start)
    more = str(start + page_size) if len(rows) > page_size else None
    return Queue(data=[present.waiting(row) for row in rows[:page_size]], next_page_token=more)


@router.get("/v1/reviews/progress")
async def progress(
    runtime: Running,
    caller: Reviewing,
    since: Annotated[datetime | None, Query(description="by default today's midnight, UTC")] = None,
) -> Progress:
    """How much was decided since then, and how much waits."""
    since = since or datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    since = since if since.tzinfo else since.replace(tzinfo=UTC)
    counts = await runtime.reviews.progress(caller.tenant, round(since.timestamp() * 1000))
    done = sum(count for action, count in counts.items() if action not in ("open", "add"))
    return Progress(since=since, done=done, **counts)


@router.post(
    "/v1/reviews/next",
    response_model=HeldCase,
    responses={200: {"headers": ETAG}, 204: {"description": "Nothing waits that nobody has open"}},
)
async def take_next(runtime: Running, caller: Reviewing, who: Who) -> Response:
    """Take the most informative case that nobody has open, and hold it for a few minutes."""
    opened = await desk.take_next(runtime, caller, who.reviewer)
    return Response(status_code=204) if opened is None else answer(present.held_case(opened))


@router.get("/v1/reviews/{case_id}", response_model=Case, responses={200: {"headers": ETAG}})
async def read(runtime: Running, caller: Reviewing, case_id: CaseId) -> Response:
    """One case, held or not, decided or not."""
    return answer(present.case(*await desk.opened(runtime, caller, case_id)))


@router.post(
    "/v1/reviews/{case_id}/lease",
    response_model=HeldCase,
    responses={200: {"headers": ETAG}, 409: _HELD},
)
async def take(runtime: Running, caller: Reviewing, case_id: CaseId, wish: Take) -> Response:
    """Take this very case, or prolong the `lease` on it."""
    return answer(present.held_case(await desk.take(runtime, caller, case_id, wish.reviewer, wish.lease)))


@router.post("/v1/reviews/{case_id}/release", status_code=204, responses={412: _CHANGED})
async def release(runtime: Running, caller: Reviewing, case_id: CaseId, held: Release) -> None:
    """Let go of it without a decision, for whoever comes next."""
    await desk.release(runtime, caller, case_id, held.lease)


@router.post("/v1/reviews/{case_id}/skip", status_code=204, responses={412: _CHANGED})
async def skip(runtime: Running, caller: Reviewing, case_id: CaseId, held: Release) -> None:
    """Let go of it and put it behind everything that was skipped less often."""
    await desk.release(runtime, caller, case_id, held.lease, skip=True)


@router.post(
    "/v1/reviews/{case_id}/decision",
    response_model=Case,
    responses={200: {"headers": ETAG}, 409: _HELD, 412: _CHANGED, 428: _MISSING},
)
async def decide(runtime: Running, caller: Reviewing, case_id: CaseId, verdict: Verdict, version: Version) -> Response:
    """Accept, correct or reject; of a whole claim also ask for a photo. Findings, summary and route change at once."""
    return answer(present.case(*await desk.decide(runtime, caller, case_id, verdict, version)))


@router.post(
    "/v1/reviews/{case_id}/undo",
    response_model=HeldCase,
    responses={200: {"headers": ETAG}, 412: _CHANGED, 428: _MISSING},
)
async def undo(runtime: Running, caller: Reviewing, case_id: CaseId, who: Who, version: Version) -> Response:
    """Take the standing decision back: all is as the models left it, and the caller holds the case again."""
    opened, _ = await desk.undo(runtime, caller, case_id, who.reviewer, version)
    return answer(present.held_case(opened))


@router.get("/v1/reviews/{case_id}/history")
async def history(runtime: Running, caller: Reviewing, case_id: CaseId) -> History:
    """Every decision on it, undone ones too, the newest first."""
    await desk.opened(runtime, caller, case_id)
    rows = await runtime.reviews.history(caller.tenant, case_id)
    return History(data=[present.decision(row) for row in rows])


@router.get("/v1/reviews/{case_id}/similar")
async def similar(runtime: Running, caller: Reviewing, case_id: CaseId) -> PastCases:
    """The nearest past cases as the memory knows them now; pictures of one's own reviewed crops only."""
    opened = await desk.opened_finding(runtime, caller, case_id)
    found = await runtime.learning.similar(opened, k=_SIMILAR)
    return PastCases(
        data=[
            PastCase(**near.model_dump(), picture=f"/v1/reviews/{shown}/crop.webp" if shown else None)
            for near, shown in found
        ]
    )


@router.get(
    "/v1/reviews/{case_id}/crop.webp",
    response_class=Response,
    responses={200: {"content": {"image/webp": {}}, "description": "A picture without metadata"}},
)
async def crop(
    runtime: Running,
    caller: Reviewing,
    case_id: CaseId,
    side: Annotated[int, Query(ge=64, le=1600, description="pixels, at most, wide or high")] = 1024,
) -> Response:
    """The damage with its surroundings, cut from the photo as it came: sharper than the preview."""
    opened = await desk.opened_finding(runtime, caller, case_id)
    data = await runtime.crops.picture(opened.photo.id, opened.damage.document["box"], side=side)
    return Response(data, headers={"Cache-Control": "private, max-age=31536000, immutable"}, media_type="image/webp")


def answer(case: Case, *, status: int = 200) -> Response:
    headers = {"ETag": f'"{case.version}"', "Cache-Control": "private, no-store"}
    return Response(case.model_dump_json(), status, headers, media_type="application/json")
