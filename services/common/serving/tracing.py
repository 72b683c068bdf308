"""Traces, where OTEL_EXPORTER_OTLP_ENDPOINT names a collector; elsewhere the SDK is not even imported.

A trace leads from room to room as W3C Trace Context: in the header `traceparent`, and through the queue in the job's
data. Spans hold ids of our own making, states and counts; never bodies, addresses, keys, or what an exception says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from services.common.serving.otel import Otel

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
TRACEPARENT = "traceparent"
Kind = Literal["INTERNAL", "SERVER", "CLIENT", "CONSUMER"]
Attributes = Mapping[str, str | int | float | bool]

_OFF: AbstractContextManager[None] = nullcontext()
_otel: Otel | None = None


def configure(service: str) -> None:
    """Trace this process as `service`, if a collector is named. The SDK's own OTEL_* variables hold."""
    global _otel  # noqa: PLW0603 - a process traces or does not
    if _otel is None and any(os.environ.get(name) for name in ENDPOINTS):
        from services.common.serving.otel import Otel  # noqa: PLC0415 - a third of a second that others need not wait

        _otel = Otel(os.environ.get("OTEL_SERVICE_NAME") or f"claimsight-{service}")


def span(
    name: str,
    attributes: Attributes | None = None,
    *,
    kind: Kind = "INTERNAL",
    parent: str | None = None,
    links: Sequence[str | None] = (),
    waited_s: float = 0,
    unless: tuple[type[Exception], ...] = (),
) -> AbstractContextManager[None]:
    """What happens inside is one span of the current trace, or of the one that `parent` (a traceparent) names.

    It began `waited_s` ago. An exception leaves its class and no message; those of `unless` are no errors.
    """
    if _otel is None:
        return _OFF
    return _otel.span(name, attributes, kind=kind, parent=parent, links=links, waited_s=waited_s, unless=unless)


def past(name: str, seconds: float, *, parent: str | None = None) -> None:
    """A span that ends now and began `seconds` ago: a wait."""
    if _otel is not None:
        _otel.past(name, seconds, parent=parent)


def note(attributes: Attributes, *, name: str | None = None) -> None:
    """Tell the current span what was not known when it began."""
    if _otel is not None:
        _otel.note(attributes, name)


def traceparent() -> str | None:
    """The current span for whoever is called next; None outside of any."""
    return None if _otel is None else _otel.traceparent()


def trace_id() -> str | None:
    """The current trace, as log lines name it."""
    found = traceparent()
    return found.split("-")[1] if found else None
