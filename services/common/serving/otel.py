"""OpenTelemetry behind `tracing`: imported only where a collector is named."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_EXPORT_TIMEOUT_S = 3  # a collector is a neighbour, and a lost one must not hold a process that stops
_W3C = TraceContextTextMapPropagator()
Attributes = Mapping[str, str | int | float | bool]


class Otel:
    """One tracer; spans leave in batches, on a thread of the SDK's, and what is left when the process ends."""

    def __init__(self, service: str) -> None:
        provider = TracerProvider(resource=Resource.create({"service.name": service}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=_EXPORT_TIMEOUT_S)))
        self._tracer = provider.get_tracer("claimsight")

    @contextmanager
    def span(
        self,
        name: str,
        attributes: Attributes | None,
        *,
        kind: str,
        parent: str | None,
        links: Sequence[str | None],
        waited_s: float,
        unless: tuple[type[Exception], ...],
    ) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            name,
            context=_context(parent),
            kind=SpanKind[kind],
            attributes=attributes,
            links=[Link(get_current_span(_context(each)).get_span_context()) for each in links if each],
            start_time=_ago(waited_s),
            record_exception=False,  # its message may quote what a client has sent
            set_status_on_exception=False,
        ) as opened:
            try:
                yield
            except Exception as error:
                if not isinstance(error, unless):
                    opened.set_attribute("error.type", type(error).__name__)
                    opened.set_status(StatusCode.ERROR)
                raise

    def past(self, name: str, seconds: float, *, parent: str | None) -> None:
        self._tracer.start_span(name, context=_context(parent), start_time=_ago(seconds)).end()

    def note(self, attributes: Attributes, name: str | None) -> None:
        current = get_current_span()
        if name is not None:
            current.update_name(name)
        for key, value in attributes.items():
            current.set_attribute(key, value)
        if int(attributes.get("http.response.status_code", 0)) >= 500:
            current.set_status(StatusCode.ERROR)

    def traceparent(self) -> str | None:
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return carrier.get("traceparent")


def _context(parent: str | None) -> Context | None:
    return None if parent is None else _W3C.extract({"traceparent": parent}, Context())


def _ago(seconds: float) -> int:
    return time.time_ns() - int(max(seconds, 0.0) * 1e9)
