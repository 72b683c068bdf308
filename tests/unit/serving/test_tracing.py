"""Traces: off unless a collector is named, whole across the batcher, and without a word of what clients send."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.common.serving import tracing
from services.common.serving.app import create_app
from services.common.serving.batcher import Batcher, Outputs
from services.common.serving.clients import in_process
from services.common.serving.errors import NotReady
from tests.unit.serving.collector import Collector, collecting

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setattr(tracing, "_otel", None)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    with collecting() as running:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.url)
        tracing.configure("test")
        yield running


def test_without_a_collector_the_sdk_is_not_even_imported() -> None:
    code = (
        "import sys; from services.common.serving import tracing, run, clients, batcher; tracing.configure('x')\n"
        "with tracing.span('a'): assert tracing.traceparent() is None\n"
        "sys.exit(any(name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter')) for name in sys.modules))"
    )
    kept = {"PATH": "/usr/bin", "PYTHONPATH": str(Path(__file__).parents[3])}
    assert subprocess.run([sys.executable, "-c", code], env=kept, check=False).returncode == 0


async def test_one_model_run_for_many_requests_leads_to_each_of_them(collector: Collector) -> None:
    running, busy = threading.Event(), threading.Event()

    def run(rows: NDArray[np.uint8]) -> Outputs:
        running.set()
        busy.wait(60)
        return {"y": rows.astype(np.float32)}

    async def ask(number: int) -> None:
        with tracing.span(f"request {number}"):
            await batcher.submit(np.zeros((1, 2), np.uint8))

    with ThreadPoolExecutor(1) as device:
        batcher = Batcher(run, service="test", max_rows=8, capacity=8, device=device)
        first = asyncio.create_task(ask(0))
        async with asyncio.timeout(60):
            await asyncio.to_thread(running.wait)
        rest = [asyncio.create_task(ask(number)) for number in (1, 2, 3)]
        await asyncio.sleep(0.05)
        busy.set()
        await asyncio.gather(first, *rest)
        await batcher.close()
    spans = await asyncio.to_thread(collector.until, lambda spans: len(spans) == 10)
    asked = {span.name: span for span in spans if span.name.startswith("request")}
    _, together = sorted((span for span in spans if span.name == "infer"), key=lambda span: len(span.links))
    assert together.parent == asked["request 1"].id and together.attributes["claimsight.rows"] == 3
    assert together.links == {asked["request 2"].id, asked["request 3"].id}
    waits = {span.trace for span in spans if span.name == "queue wait"}
    assert waits == {span.trace for span in asked.values()} and len(waits) == 4


async def test_a_span_says_route_status_and_class_of_error_and_nothing_of_the_request(collector: Collector) -> None:
    app = create_app(service="test", version="1")

    @app.post("/v1/claims/{claim}")
    async def claim(claim: str, plate: str) -> None:
        raise NotReady(f"cannot store {plate}")

    async with in_process(app) as http:
        await http.get("/health/live")
        headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "user-agent": "Erika's phone"}
        await http.post("/v1/claims/clm_77?plate=B-XY-123", json={"name": "Erika"}, headers=headers)
    (span,) = await asyncio.to_thread(collector.until, lambda spans: len(spans) == 1)
    assert (span.name, span.trace, span.parent) == ("POST /v1/claims/{claim}", TRACE, "b7ad6b7169203331")
    assert span.attributes["http.response.status_code"] == 503 and span.failed
    for personal in (b"B-XY-123", b"Erika", b"clm_77"):
        assert personal not in collector.received


async def test_the_next_room_is_told_the_span_that_calls_it(collector: Collector) -> None:
    with tracing.span("outer", {"claimsight.photo": "pho_1"}):
        told = tracing.traceparent()
        with pytest.raises(KeyError), tracing.span("inner", parent=told):
            raise KeyError("B-XY-123")
        with pytest.raises(KeyError), tracing.span("allowed", unless=(KeyError,)):
            raise KeyError
    spans = await asyncio.to_thread(collector.until, lambda spans: len(spans) == 3)
    by_name = {span.name: span for span in spans}
    assert by_name["inner"].parent == by_name["allowed"].parent == by_name["outer"].id
    assert by_name["inner"].attributes == {"error.type": "KeyError"}
    assert (by_name["inner"].failed, by_name["allowed"].failed) == (True, False)
    assert b"B-XY-123" not in collector.received
