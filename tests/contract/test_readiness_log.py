"""What an operator reads in the log of a gateway that is not ready."""

from __future__ import annotations

import asyncio
from pathlib import Path

from structlog.testing import capture_logs
from structlog.typing import EventDict

from services.common.serving.errors import NotReady
from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.running import gateway

AWAY, LOADING = "The segmenter cannot be reached. Is it running?", "The segmenter is loading. Ask again in a moment."


def told(lines: list[EventDict]) -> list[tuple[str, str, str]]:
    kept = [line for line in lines if line["event"] in ("ready", "not ready")]
    return [(line["log_level"], line["event"], line.get("why", "")) for line in kept]


async def test_each_reason_is_said_once_however_often_it_is_asked(tmp_path: Path, redis_url: str, fakes: Fakes) -> None:
    with capture_logs() as lines:
        async with gateway(tmp_path, redis_url, fakes, worker=False) as http:
            for detail in (None, AWAY, LOADING, None):
                fakes.segmenter.problem = NotReady(detail) if detail else None
                answers = [(await http.get("/health/ready")).status_code for _ in range(3)]
                assert answers == [503 if detail else 200] * 3
    warned = [("warning", "not ready", detail) for detail in (AWAY, LOADING)]
    assert told(lines) == [("info", "ready", ""), *warned, ("info", "ready", "")]


async def test_a_gateway_that_nobody_asks_says_itself_what_it_waits_for(
    tmp_path: Path, redis_url: str, fakes: Fakes
) -> None:
    fakes.segmenter.problem = NotReady(AWAY)
    with capture_logs() as lines:
        async with gateway(tmp_path, redis_url, fakes, worker=False):
            async with asyncio.timeout(30):
                while not told(lines):  # noqa: ASYNC110 - the log is read, not told
                    await asyncio.sleep(0.02)
                fakes.segmenter.problem = None
                while len(told(lines)) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
    assert told(lines) == [("info", "not ready", AWAY), ("info", "ready", "")]
