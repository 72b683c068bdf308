"""RFC 9457 problem documents: every error of ours and of the framework becomes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from services.common.serving import errors
from services.common.serving.context import current
from services.common.serving.errors import Problem

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:claimsight:problem:"  # a name, not an address: nothing has to be served under it for ever

_log = structlog.get_logger(__name__)

_FRAMEWORK: dict[int, type[Problem]] = {
    400: errors.InvalidRequest,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: errors.PayloadTooLarge,
    415: errors.UnsupportedMediaType,
    422: errors.Unprocessable,
}
_DETAILS = {
    404: "No such address here. /openapi.json lists the ones there are.",
    405: "This address does not know that method. The Allow header lists those it knows.",
    413: "The upload is larger than this address accepts. Send fewer or smaller files.",
}

SCHEMA = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457 problem details; some types add members of their own",
    "required": ["type", "title", "status", "detail", "instance", "request_id"],
    "properties": {
        "type": {"type": "string", "example": f"{TYPE_PREFIX}{errors.NotReady.slug}"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "request_id": {"type": "string"},
    },
}


def document(problem: Problem, instance: str) -> dict[str, object]:
    """The JSON body of `problem` as an answer to the path `instance`."""
    return {
        **problem.extra,
        "type": TYPE_PREFIX + problem.slug,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": instance,
        "request_id": current().request_id,
    }


def reason(problem: Problem | None) -> dict[str, str]:
    """For the log, why a request failed here; nothing of what is the client's fault, which may name what is private.

    Of the cause, the first line only: those of a database go on with what was to be written.
    """
    if problem is None or problem.status < 500:
        return {}
    why = {"why": problem.detail}
    if (cause := problem.__cause__) is not None:
        why["cause"] = f"{type(cause).__name__}: {cause}".partition("\n")[0][:200]
    return why


def response(problem: Problem, instance: str, headers: Mapping[str, str] | None = None) -> Response:
    sent = {**problem.headers, **(headers or {})}
    if problem.retry_after is not None:
        sent["Retry-After"] = str(problem.retry_after)
    return JSONResponse(document(problem, instance), problem.status, sent, media_type=MEDIA_TYPE)


def from_exception(error: Exception) -> Problem:
    """The problem a client may see for `error`. What nobody foresaw is logged and becomes a plain `internal`."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        kind = _FRAMEWORK.get(error.status_code, errors.InvalidRequest if error.status_code < 500 else Problem)
        return kind(_DETAILS.get(error.status_code, str(error.detail)))
    if isinstance(error, RequestValidationError):
        return errors.Unprocessable(_sentence(error.errors()), errors=_fields(error.errors()))
    _log.error("unexpected error", exc_info=error)
    return Problem("The request could not be finished. Try again; if it stays, report the request id.", retry_after=5)


def _place(error: Mapping[str, object]) -> str:
    location = error.get("loc")
    return ".".join(str(step) for step in location) if isinstance(location, tuple | list) else "request"


def _fields(found: Sequence[Mapping[str, object]]) -> list[dict[str, str]]:
    """Where and what, without the offending input: it may be personal, and it may be large."""
    return [{"where": _place(error), "what": str(error.get("msg", "not valid"))} for error in found[:20]]


def _sentence(found: Sequence[Mapping[str, object]]) -> str:
    return "; ".join(f"{field['where']}: {field['what']}" for field in _fields(found)[:3]) or "The request is not valid"


async def _answer(request: Request, error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):  # nobody is left to read this; the number is for our own log
        return Response(status_code=499)
    kept = error.headers if isinstance(error, HTTPException) else None  # WWW-Authenticate
    if isinstance(error, HTTPException) and error.status_code == 405:
        kept = {"Allow": ", ".join(_methods(request))}
    request.state.problem = problem = from_exception(error)
    return response(problem, request.url.path, kept)


def _methods(request: Request) -> list[str]:
    """What the address knows (RFC 9110, section 10.2.1). The framework names one route's methods, of several."""
    known = []
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        asked = {**request.scope, "method": "GET" if method == "HEAD" else method}  # see HeadMiddleware
        if any(route.matches(asked)[0] is Match.FULL for route in request.app.routes):
            known.append(method)
    return known


def install(app: FastAPI) -> None:
    """Answer every exception raised behind the routes of `app` with a problem document."""
    for kind in (Problem, HTTPException, RequestValidationError, ClientDisconnect):
        app.add_exception_handler(kind, _answer)
