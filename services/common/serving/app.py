"""The app factory: what every service has before it has any route of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI
from pydantic import SecretStr
from starlette.middleware import Middleware

from services.common.serving import health, problems
from services.common.serving.internal import InternalKeyMiddleware
from services.common.serving.middleware import BodyLimitMiddleware, HeadMiddleware, RequestContextMiddleware

MEBIBYTE = 1024 * 1024
DEFAULT_MAX_BODY_BYTES = 32 * MEBIBYTE

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


async def _always_ready() -> health.Readiness:
    return health.Readiness()


def _nothing_to_leave() -> None:
    return None


def create_app(
    *,
    service: str,
    version: str,
    title: str | None = None,
    summary: str | None = None,
    description: str = "",
    lifespan: Lifespan | None = None,
    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
    readiness: health.ReadinessCheck = _always_ready,
    middleware: Sequence[Middleware] = (),
    internal_key: SecretStr | None = None,
) -> FastAPI:
    """An app with health routes, problem documents for every error, request context and a cap on bodies.

    `middleware` of the service's own runs inside the common ones: what it raises is answered like any other error.
    With `internal_key`, only callers that hold it are answered.
    `title`, `summary` and `description` stand in /openapi.json; without a title it is called as the service is.
    `app.state.service` is its name, `app.state.readiness` holds the check that `/health/ready` asks,
    `app.state.leaving` what is called when the server takes no more requests; a lifespan may replace the last two.
    """
    if internal_key is not None:
        middleware = [Middleware(InternalKeyMiddleware, key=internal_key.get_secret_value()), *middleware]
    app = FastAPI(
        title=title or service,
        summary=summary,
        description=description,
        version=version,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        middleware=middleware,
        docs_url=None,  # FastAPI's pages run scripts from elsewhere, beside people's claims; /openapi.json is ours
        redoc_url=None,
        responses={
            "default": {
                "description": "Any error, as RFC 9457 problem details",
                "content": {problems.MEDIA_TYPE: {"schema": problems.SCHEMA}},
            }
        },
    )
    app.state.service = service
    app.state.readiness = readiness
    app.state.leaving = _nothing_to_leave
    problems.install(app)
    app.include_router(health.router)
    # The last added is the outermost: a refused body still gets a request id, a log line and a count.
    app.add_middleware(BodyLimitMiddleware, max_bytes=max_body_bytes)
    app.add_middleware(RequestContextMiddleware, service=service)
    app.add_middleware(HeadMiddleware)
    return app
