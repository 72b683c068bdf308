"""The generator as a process of its own, killed in the middle of a generation."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from redis import Redis

from services.common.serving.clients import over_network
from services.common.serving.generator_client import HttpGenerator
from services.gateway.app import build_app
from services.gateway.assessment.clients import Clients
from services.generator.app import build_app as generator_app
from tests.e2e.processes import Service
from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.running import client, settings
from tests.unit.gateway.servers import free_port, valkey
from tests.unit.generator.tiny import QUICK, make

pytest.importorskip("diffusers")
pytest.importorskip("c2pa")


async def test_a_generation_whose_generator_was_killed_is_drawn_by_the_next_one(tmp_path: Path) -> None:
    model, port = make(tmp_path / "model"), free_port()

    def start() -> Service:
        arguments = ("--port", str(port), "--base-model", str(model.base_model), "--signing", str(model.signing))
        return Service("services.generator", *arguments, log=tmp_path / "generator.log")

    async def state(url: str) -> dict[str, Any]:
        answer: dict[str, Any] = (await http.get(url)).json()
        return answer

    fakes, first = Fakes(), start()
    second = uvicorn.Server(uvicorn.Config(generator_app(model), port=port, log_config=None))
    serving: asyncio.Task[None] | None = None
    try:
        await asyncio.to_thread(first.wait_until_ready, f"http://127.0.0.1:{port}")
        with valkey() as redis_url, Redis.from_url(redis_url):
            async with over_network(f"http://127.0.0.1:{port}") as there:
                clients = Clients(fakes.segmenter, fakes.classifier, fakes.retrieval, HttpGenerator(there))
                app = build_app(settings(tmp_path / "data", redis_url), clients, worker=True)
                async with app.router.lifespan_context(app), client(app) as http:
                    answer = await http.post("/v1/generations", json=QUICK | {"steps": 100, "prompts": ["a dent"] * 3})
                    url = answer.headers["location"]
                    while (await state(url))["progress"]["done"] < 2:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                    first.process.kill()
                    first.process.wait()
                    assert (await state(url))["status"] in ("queued", "processing")
                    serving = asyncio.create_task(second.serve())
                    while (found := await state(url))["status"] in ("queued", "processing"):  # noqa: ASYNC110
                        await asyncio.sleep(0.5)
        assert found["status"] == "succeeded", found
        assert len(found["images"]) == 3
    finally:
        first.process.kill()
        first.process.wait()
        if serving is not None:
            second.should_exit = True
            await serving
