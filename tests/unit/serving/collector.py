"""A collector of traces: receives OTLP's protobuf over HTTP, as an operator's would, and keeps the spans."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    service: str
    name: str
    trace: str
    id: str
    parent: str
    links: frozenset[str]  # ids of other spans
    attributes: dict[str, object]
    seconds: float
    failed: bool


class Collector:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.spans: list[Span] = []
        self.received = b""  # every byte, for whoever looks for what must not be in it

    def until(self, enough: Callable[[list[Span]], bool], patience_s: float = 60) -> list[Span]:
        """The spans once there are enough of them; what has come until then otherwise."""
        ends = time.monotonic() + patience_s
        while not enough(self.spans) and time.monotonic() < ends:
            time.sleep(0.05)
        return self.spans

    def take(self, body: bytes) -> None:
        self.received += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
            for scope in resource.scope_spans:
                self.spans += [
                    Span(
                        service=service,
                        name=span.name,
                        trace=span.trace_id.hex(),
                        id=span.span_id.hex(),
                        parent=span.parent_span_id.hex(),
                        links=frozenset(link.span_id.hex() for link in span.links),
                        attributes={a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes},
                        seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                        failed=span.status.code == 2,
                    )
                    for span in scope.spans
                ]


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield collector
        server.shutdown()
