"""What one request carries from room to room: its id, its trace and its deadline.

Kept in a context variable, so the clients pass it on without every function naming it.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import structlog

from services.common.serving import tracing
from services.common.serving.errors import InvalidRequest
from services.common.serving.tracing import TRACEPARENT

REQUEST_ID = "x-request-id"
TIMEOUT_MS = "x-request-timeout-ms"
MAX_TIMEOUT_MS = 3_600_000

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")
_SANE_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context, section 3.2


@dataclass(frozen=True)
class RequestContext:
    """`deadline` is a time.monotonic() moment in seconds, or None where the caller would wait for ever."""

    request_id: str
    traceparent: str | None = None
    deadline: float | None = None

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the deadline (negative once it has passed), or None without one."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    def headers(self) -> dict[str, str]:
        """The same context as request headers for the next room."""
        headers = {REQUEST_ID: self.request_id}
        if trace := tracing.traceparent() or self.traceparent:
            headers[TRACEPARENT] = trace
        if (left := self.remaining_s) is not None:
            headers[TIMEOUT_MS] = str(min(MAX_TIMEOUT_MS, max(1, int(left * 1000))))
        return headers


_current: ContextVar[RequestContext | None] = ContextVar("claimsight_request", default=None)


def new_request_id() -> str:
    return f"req_{secrets.token_hex(13)}"


def current() -> RequestContext:
    """The context of the running request or job; outside of any, a fresh one without a deadline."""
    return _current.get() or RequestContext(new_request_id())


@contextmanager
def bound(context: RequestContext) -> Iterator[RequestContext]:
    """Make `context` the current one, for `current()` and for every log line written inside."""
    token = _current.set(context)
    names = {"request_id": context.request_id, "trace_id": tracing.trace_id()}
    with structlog.contextvars.bound_contextvars(**{name: value for name, value in names.items() if value}):
        try:
            yield context
        finally:
            _current.reset(token)


def from_headers(headers: Mapping[str, str]) -> RequestContext:
    """Read the context of an incoming request. An id or a trace that is not sane is replaced, not trusted.

    `headers` must be case-insensitive or lower-cased. Raises InvalidRequest for a timeout that is no number of
    milliseconds: guessing a deadline would be worse than saying so.
    """
    request_id = headers.get(REQUEST_ID, "")
    traceparent = headers.get(TRACEPARENT, "")
    return RequestContext(
        request_id=request_id if _SANE_ID.fullmatch(request_id) else new_request_id(),
        traceparent=traceparent if _SANE_TRACE.fullmatch(traceparent) else None,
        deadline=_deadline(headers.get(TIMEOUT_MS)),
    )


def _deadline(text: str | None) -> float | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and int(text[:9]) >= 1 and len(text) <= 9):
        raise InvalidRequest(f"X-Request-Timeout-Ms must be a whole number of milliseconds from 1 to {MAX_TIMEOUT_MS}")
    return time.monotonic() + min(int(text), MAX_TIMEOUT_MS) / 1000
