"""A claim through separate processes on loopback: each service alone, a real queue server, SQLite."""

from __future__ import annotations

import io
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import httpx2
import pytest
from PIL import Image

from services.common.jobs import embedded
from tests.e2e.processes import Service, post_claim, running
from tests.e2e.scenes import damaged_car, pack_environment
from tests.unit.gateway.servers import free_port
from tests.unit.serving.collector import Collector, Span, collecting


@dataclass(frozen=True)
class House:
    url: str
    services: dict[str, Service]
    collector: Collector


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    environment = dict(pack_environment(folder / "models"))
    ports = {name: free_port() for name in ("segmenter", "classifier", "retrieval", "gateway")}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    environment |= {
        f"CLAIMSIGHT_GATEWAY_{name.upper()}_URL": urls[name] for name in ("segmenter", "classifier", "retrieval")
    }
    environment |= {
        "CLAIMSIGHT_GATEWAY_DATA": str(folder / "data"),
        "CLAIMSIGHT_RETRIEVAL_DATA": str(folder / "memory"),
    }
    with ExitStack() as stack:
        collector = stack.enter_context(collecting())
        environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        environment["CLAIMSIGHT_GATEWAY_REDIS_URL"] = stack.enter_context(embedded.running(folder / "queue"))
        started = {}
        for name in ("segmenter", "classifier", "retrieval", "gateway", "worker"):
            module, arguments = f"services.{name}", ["--port", str(ports.get(name, 0))]
            if name == "gateway":
                arguments = ["api", *arguments]
            elif name == "worker":
                module, arguments = "services.gateway", ["worker"]
            log = folder / f"{name}.log"
            started[name] = stack.enter_context(running(module, *arguments, log=log, environment=environment))
        for name, url in urls.items():
            started[name].wait_until_ready(url)
        started["worker"].wait_until_it_says("worker started")
        yield House(urls["gateway"], started, collector)


def test_a_claim_walks_through_all_processes(house: House) -> None:
    answer = post_claim(house.url, damaged_car(), damaged_car(dent=False))
    assert answer.status_code == 200, answer.text + house.services["worker"].tail()
    claim = answer.json()
    assert claim["status"] == "succeeded"
    damaged, undamaged = claim["photos"]
    (finding,) = damaged["findings"]
    assert (finding["damage"], finding["opinion"]["label"], finding["part"]["name"]) == ("dent", "dent", "door")
    assert finding["box"] == pytest.approx([0.3, 0.3, 0.5, 0.5], abs=0.05)
    assert undamaged["findings"] == []
    assert {fake["label"] for fake in undamaged["lookalikes"]} == {"reflection"}
    assert claim["models"]["segmenter"]["name"] == "albert"


def test_the_overlay_of_a_photo_can_be_fetched(house: House) -> None:
    claim = post_claim(house.url, damaged_car()).json()
    overlay = httpx2.get(house.url + claim["photos"][0]["links"]["overlay"], timeout=30)
    assert overlay.headers["content-type"] == "image/webp"
    with Image.open(io.BytesIO(overlay.content)) as picture:
        assert picture.width / picture.height == pytest.approx(640 / 480, rel=0.02)


def test_one_bad_photo_does_not_fail_the_claim(house: House) -> None:
    claim = post_claim(house.url, damaged_car(), b"\xff\xd8\xff\xe0 this is no photo").json()
    assert (claim["status"], claim["partial"]) == ("succeeded", True)
    assert [photo["status"] for photo in claim["photos"]] == ["succeeded", "failed"]


def test_the_models_of_all_services_are_shown(house: House) -> None:
    models = httpx2.get(f"{house.url}/v1/models", timeout=30).json()
    assert models["segmenter"]["providers"] == ["CPUExecutionProvider"]
    assert models["memory"]["backbone"] == models["classifier"]["backbone"]
    assert models["memory"]["rows"] == 60


def test_one_trace_leads_through_all_processes_and_names_nobody(house: House) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    private = ("Erika-Mustermann", "B-XY-123.jpg", "erikas-phone/1.0")
    answer = httpx2.post(
        f"{house.url}/v1/claims",
        files=[("photos", (private[1], damaged_car(), "image/jpeg"))] * 2,  # the last is written with the claim's end
        data={"external_ref": private[0]},
        headers={
            "Prefer": "wait=30",
            "User-Agent": private[2],
            "traceparent": f"00-{trace}-00f067aa0ba902b7-01",
        },
        timeout=60,
    )
    claim = answer.json()
    assert claim["status"] == "succeeded" and claim["photos"][0]["findings"], answer.text
    steps = {
        "claimsight-gateway": {"POST /v1/claims"},
        "claimsight-gateway-worker": {"queue wait", "claims", "photo", "decode", "segment", "classify", "retrieve"}
        | {"describe", "write", "finish", "segmenter", "classifier", "retrieval"},
        "claimsight-segmenter": {"POST /v1/segment", "queue wait", "infer"},
        "claimsight-classifier": {"POST /v1/classify", "queue wait", "infer"},
        "claimsight-retrieval": {"POST /v1/search"},
    }
    wanted = {(service, name) for service, names in steps.items() for name in names}

    def walked(spans: list[Span]) -> set[tuple[str, str]]:
        return {(span.service, span.name) for span in spans if span.trace == trace}

    def whole(spans: list[Span]) -> bool:
        """Every step is there, and what each stands in: spans arrive when they end, from every process on its own."""
        ours = [span for span in spans if span.trace == trace]
        known = {"00f067aa0ba902b7", *(span.id for span in ours)}
        return wanted <= walked(spans) and all(span.parent in known for span in ours)

    spans = house.collector.until(whole)
    assert whole(spans), wanted - walked(spans)
    ours = {span.id: span for span in spans if span.trace == trace}
    (job,) = [span for span in ours.values() if span.name == "claims"]
    assert job.attributes["claimsight.job"] == claim["id"]
    house.services["worker"].wait_until_it_says(claim["id"])  # who looks for a claim finds it in every room
    house.services["segmenter"].wait_until_it_says(trace)
    logs = {name: service.log.read_text(encoding="utf-8") for name, service in house.services.items()}
    for word in private:
        assert word.encode() not in house.collector.received
        assert [name for name, log in logs.items() if word in log] == []


def test_every_service_ends_with_status_0_on_sigterm(house: House) -> None:  # the last: it ends them
    for name, service in house.services.items():
        assert service.stop(signal.SIGTERM) == 0, f"{name}:\n{service.tail()}"
