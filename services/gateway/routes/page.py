"""The pages at `/` and `/review`: a few plain files, no build step, nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, Response

from services.common.serving.errors import NotFound

router = APIRouter(include_in_schema=False)

_FOLDER = Path(__file__).parent.parent / "page"
_ASSETS = frozenset(path.name for path in _FOLDER.iterdir())  # names are compared, never made into paths
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@router.get("/")
async def page() -> Response:
    return FileResponse(_FOLDER / "index.html", headers=_HEADERS)


@router.get("/review")
async def review() -> Response:
    return FileResponse(_FOLDER / "review.html", headers=_HEADERS)


@router.get("/page/{name}")
async def asset(name: str) -> Response:
    if name not in _ASSETS:
        raise NotFound("The page has no such file")
    return FileResponse(_FOLDER / name, headers=_HEADERS)
