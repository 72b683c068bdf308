"""Liveness, readiness and start-up: three questions, three answers, each explaining itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from fastapi import APIRouter, Request
from pydantic import BaseModel

from services.common.serving.errors import NotReady

STARTING = frozenset({"loading", "building_engine", "warming"})


@dataclass(frozen=True)
class Readiness:
    """`state` is "ready" or says what is missing; `detail` tells an operator what to do; `extra` goes out as is."""

    state: str = "ready"
    detail: str = ""
    extra: dict[str, object] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        return self.state == "ready"

    @property
    def started(self) -> bool:
        """Start-up is over, though a neighbour may still be missing."""
        return self.state not in STARTING and self.state != "failed"


ReadinessCheck = Callable[[], Awaitable[Readiness]]


class Health(BaseModel):
    status: str
    service: str
    version: str


router = APIRouter(prefix="/health", tags=["health"])


def _health(request: Request, status: str) -> Health:
    return Health(status=status, service=request.app.state.service, version=request.app.version)


async def _readiness(request: Request) -> Readiness:
    check: ReadinessCheck = request.app.state.readiness
    return await check()


def _not_ready(service: str, readiness: Readiness) -> NotReady:
    detail = readiness.detail or f"{service} is {readiness.state}. Ask again in a moment."
    problem = NotReady(detail)
    problem.extra = {**readiness.extra, "state": readiness.state}
    return problem


@router.get("/live")
async def live(request: Request) -> Health:
    """The process runs and its event loop answers."""
    return _health(request, "live")


@router.get("/ready")
async def ready(request: Request) -> Health:
    """Requests sent here now will be served; otherwise a problem with `state` says why not."""
    readiness = await _readiness(request)
    if not readiness.ready:
        raise _not_ready(request.app.state.service, readiness)
    return _health(request, "ready")


@router.get("/startup")
async def startup(request: Request) -> Health:
    """Loading and warming are over."""
    readiness = await _readiness(request)
    if not readiness.started:
        raise _not_ready(request.app.state.service, readiness)
    return _health(request, "started")
