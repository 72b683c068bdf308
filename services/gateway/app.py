"""The gateway: the only public door. Thin routes over the records, the queue and the pictures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI, Request
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.middleware import Middleware
from starlette.responses import Response

import services
from services.common.serving import problems
from services.common.serving.app import create_app
from services.common.serving.ending import end
from services.common.serving.errors import NotReady
from services.gateway.assessment.clients import Clients
from services.gateway.callers import CallersMiddleware
from services.gateway.hosts import HostsMiddleware
from services.gateway.readiness import Watch
from services.gateway.routes import (
    additions,
    batches,
    claims,
    events,
    generations,
    instant,
    intake,
    keys,
    lifecycle,
    models,
    packs,
    page,
    rerun,
    reviews,
    usage,
    webhooks,
)
from services.gateway.runtime import opened
from services.gateway.settings import Settings
from services.gateway.worker import ClaimWorker

log = structlog.get_logger(__name__)
_DESCRIPTION = (
    "What is damaged, on which part, whether it is real, which past cases resemble it, how sure that is, and whether a "
    "person should look. Every error is a problem document (RFC 9457) whose `detail` says what to do. As soon as there "
    "is an API key, everything under `/v1` needs one: `Authorization: Bearer csk_...`."
)
_FORM_OVERHEAD = 1024 * 1024  # bytes of boundaries, headers and text fields around the photos


def build_app(settings: Settings, clients: Clients | None = None, *, worker: bool = False) -> FastAPI:
    """The API; with `worker`, one that assesses the claims in the same event loop.

    `clients` are model services in this process; without them, those at the settings' addresses are asked.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened(settings, clients) as runtime:
            app.state.runtime = runtime
            app.state.readiness = watch = Watch(runtime)
            starting = asyncio.create_task(watch.until_ready())
            assessor = ClaimWorker(runtime) if worker else None
            if assessor:
                assessor.start()
            runtime.learning.start(settings.requeue_seconds)

            def leave() -> None:
                runtime.signals.end()
                if assessor:
                    assessor.leave()

            app.state.leaving = leave
            yield
            await end(starting)
            await runtime.learning.stop()
            if assessor:
                await assessor.stop()

    app = create_app(
        service="gateway",
        version=services.VERSION,
        title="Claimsight",
        summary=services.SUMMARY,
        description=_DESCRIPTION,
        lifespan=lifespan,
        max_body_bytes=settings.max_claim_bytes + _FORM_OVERHEAD,
        middleware=[
            Middleware(HostsMiddleware, listening=settings.host, allowed=settings.allowed_hosts),
            Middleware(CallersMiddleware),
        ],
    )
    for routes in (
        intake,
        claims,
        lifecycle,
        events,
        rerun,
        instant,
        batches,
        generations,
        models,
        packs,
        keys,
        usage,
        reviews,
        additions,
        webhooks,
        page,
    ):
        app.include_router(routes.router)
    for lost in (OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(lost, _records_away)
    return app


async def _records_away(request: Request, error: Exception) -> Response:
    log.error("the records cannot be reached", error=type(error).__name__)
    problem = NotReady("The records cannot be reached; send this again a little later")
    return problems.response(problem, request.url.path)
