"""The generator without a base model: alive, not ready, and clear about what it lacks."""

from __future__ import annotations

from services.common.serving.clients import in_process
from services.generator.app import build_app
from services.generator.settings import Settings


async def test_without_a_base_model_the_generator_says_what_to_set() -> None:
    async with in_process(build_app(Settings())) as http:
        assert (await http.get("/health/live")).status_code == 200
        for answer in (await http.get("/health/ready"), await http.post("/v1/check", json={"prompts": ["a dent"]})):
            assert answer.status_code == 503
            assert answer.json()["type"].endswith("not-ready")
            assert "CLAIMSIGHT_GENERATOR_BASE_MODEL" in answer.json()["detail"]
