"""Logs tell what happened and nothing about whom; metrics count by route, never by address."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from prometheus_client import REGISTRY

from services.common.serving.app import create_app
from services.common.serving.clients import in_process
from services.common.serving.telemetry import configure_logging


@pytest.fixture(params=["json", "console"])
def log_format(request: pytest.FixtureRequest) -> Iterator[str]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield request.param
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


async def test_a_log_line_names_the_route_and_neither_path_nor_query_nor_body(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app = create_app(service="test", version="1")

    @app.post("/v1/claims/{claim}")
    async def claim(claim: str, plate: str) -> None:
        note = f"the plate is {plate}"
        raise RuntimeError(f"cannot store {len(note)} characters")

    configure_logging("info", log_format)
    async with in_process(app) as http:
        await http.post(
            "/v1/claims/clm_77?plate=B-XY-123", json={"name": "Erika"}, headers={"x-request-id": "walk-0001"}
        )
    logged = capsys.readouterr().err
    assert "/v1/claims/{claim}" in logged and "walk-0001" in logged and "cannot store" in logged
    for personal in ("clm_77", "B-XY-123", "Erika"):
        assert personal not in logged
    if log_format == "json":
        assert all(json.loads(line)["level"] for line in logged.splitlines())


async def test_requests_are_counted_by_route_and_status() -> None:
    app = create_app(service="counted", version="1")

    @app.get("/things/{id}")
    async def thing(id: int) -> int:
        return id

    async with in_process(app) as http:
        for path in ("/things/1", "/things/2", "/things/x", "/nowhere/3"):
            await http.get(path)

    def count(route: str, status: str) -> float | None:
        return REGISTRY.get_sample_value(
            "claimsight_requests_total", {"service": "counted", "route": route, "status": status}
        )

    assert count("/things/{id}", "200") == 2
    assert count("/things/{id}", "422") == 1
    assert count("unmatched", "404") == 1
