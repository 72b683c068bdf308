"""Pure ASGI middleware of every app: HEAD, the request's context, the last safety net, and the caps on a body."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractContextManager, nullcontext

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.serving import context, problems, telemetry, tracing
from services.common.serving.errors import BodyTimeout, InvalidRequest, PayloadTooLarge, Problem

_log = structlog.get_logger(__name__)


class HeadMiddleware:
    """HEAD wherever GET is (RFC 9110, section 9.3.2): the same answer, whose body the server does not send."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # a copy: by its own scope the server still knows to drop the body
        await self.app(scope, receive, send)


class RequestContextMiddleware:
    """Bind the request's id, trace and deadline; echo the id; count and log the answer; let no exception out."""

    def __init__(self, app: ASGIApp, *, service: str) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refused: InvalidRequest | None = None
        try:
            request = context.from_headers(Headers(scope=scope))
        except InvalidRequest as error:
            request, refused = context.RequestContext(context.new_request_id()), error
        status = 0
        told = scope.setdefault("state", {})  # where `problems` leaves the problem that it answers with

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request.request_id
            await send(message)

        started = time.perf_counter()
        with self._span(scope, request), context.bound(request):
            try:
                if refused:
                    raise refused
                await self.app(scope, receive, tagged)
            except ClientDisconnect:
                _log.info("client left", route=_route(scope))
            except Exception as error:
                if status:  # half an answer is out: only closing the connection can tell the client
                    _log.error("failed while answering", exc_info=error)
                    raise
                told["problem"] = problem = problems.from_exception(error)
                await problems.response(problem, scope["path"])(scope, receive, tagged)
            finally:
                status = status or 499  # nginx's number for a client that left before its answer
                seconds = time.perf_counter() - started
                tracing.note({"http.response.status_code": status}, name=f"{scope['method']} {_route(scope)}")
                telemetry.count_request(self.service, _route(scope), status, seconds)
                why = problems.reason(told.get("problem"))
                telemetry.log_request(self.service, scope["method"], _route(scope), status, seconds, **why)

    def _span(self, scope: Scope, request: context.RequestContext) -> AbstractContextManager[None]:
        if scope["path"].startswith("/health/"):  # probes come every second, and nobody follows them
            return nullcontext()
        known = {"claimsight.service": self.service, "http.request.method": scope["method"]}
        return tracing.span(scope["method"], known, kind="SERVER", parent=request.traceparent)


def _route(scope: Scope) -> str:
    """The route's template, never the path: a path can hold ids, and a label must have few values."""
    return getattr(scope.get("route"), "path", "unmatched")


class BodyLimitMiddleware:
    """Refuse a body that is too large (413) or arrives too slowly (408), announced or not.

    Too slowly is nothing for `idle_s`, or less than `least_rate` bytes a second over all: whoever sends a byte now and
    then must not hold a place in the queue for hours. Starlette's own limiter answers in plain text; this one answers
    with problem documents.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, idle_s: float = 30, least_rate: float = 8 * 1024) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.idle_s = idle_s
        self.least_rate = least_rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdigit() and (len(announced) > 18 or int(announced) > self.max_bytes):
            await self._refuse(self._too_large(), scope, receive, send)
            return
        seen, complete, answering = 0, False, False
        waited = 0.0  # for the client: what we spend on what has come is not its fault
        refusal: Problem | None = None

        async def counted() -> Message:
            nonlocal seen, complete, refusal, waited
            if complete:  # what is waited for now is the client's leaving, and that may take its time
                return await receive()
            # What has come buys time for more: the first `idle_s` are everybody's, then the rate counts.
            left = self.idle_s + seen / self.least_rate - waited
            asked = time.monotonic()
            try:
                async with asyncio.timeout(min(self.idle_s, left)):
                    message = await receive()
                waited += time.monotonic() - asked
            except TimeoutError:
                refusal = BodyTimeout(
                    f"Nothing of the body came for {self.idle_s:g} s, or less than {self.least_rate / 1024:g} KiB a "
                    "second over all. Send it again over a better connection, or send smaller photos."
                )
                raise refusal from None
            seen += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if seen > self.max_bytes:
                refusal = self._too_large()
                raise refusal
            return message

        async def guarded(message: Message) -> None:
            nonlocal answering
            if refusal and not answering:  # the framework turned our refusal into something else: drop that
                return
            answering = True
            await send(message)

        try:
            await self.app(scope, counted, guarded)
        except Exception:
            if refusal is None or answering:
                raise
        if refusal is not None and not answering:
            await self._refuse(refusal, scope, receive, send)

    def _too_large(self) -> Problem:
        return PayloadTooLarge(
            f"The body is larger than {self.max_bytes} bytes. Send fewer or smaller files.",
            max_bytes=self.max_bytes,
        )

    async def _refuse(self, problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
        # The rest of the body is not read, so the connection cannot carry another request.
        answer = problems.response(problem, scope["path"], {"Connection": "close"})
        await answer(scope, receive, send)
