"""The page at `/`: a few plain files, no build step, nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fastapi import APIRouter
from starlette.responses import FileResponse, Response

router = APIRouter(include_in_schema=False)

_FOLDER = Path(__file__).parent.parent / "page"
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


@router.get("/page/{name}")
async def asset(name: Literal["app.js", "dom.js", "findings.js", "viewer.js", "style.css", "icon.svg"]) -> Response:
    return FileResponse(_FOLDER / name, headers=_HEADERS)
