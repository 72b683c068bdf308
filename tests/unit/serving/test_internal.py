"""A model service answers its own house only."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from services.common.serving.app import create_app
from services.common.serving.clients import HttpRetrieval, in_process
from services.common.serving.errors import Problem, Unauthorized
from services.common.serving.internal import bearer
from services.segmenter.settings import Settings

KEY = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    "sent", [{}, bearer(""), bearer(KEY[:-1]), bearer(KEY + "0"), {"Authorization": KEY}, bearer("é")]
)
async def test_a_caller_without_the_secret_is_refused(sent: dict[str, str]) -> None:
    async with in_process(create_app(service="test", version="1", internal_key=SecretStr(KEY))) as http:
        headers = [(name.encode(), value.encode("latin-1")) for name, value in sent.items()]
        answer = await http.get("/v1/info", headers=headers)
        assert answer.status_code == 401 and answer.json()["type"].endswith(":unauthorized")


async def test_a_caller_with_the_secret_and_every_health_check_get_in() -> None:
    app = create_app(service="test", version="1", internal_key=SecretStr(KEY))

    @app.get("/v1/info")
    async def info() -> str:
        return "in"

    async with in_process(app) as http:
        assert (await http.get("/v1/info", headers=bearer(KEY))).json() == "in"
        assert (await http.get("/health/live")).status_code == 200


async def test_a_wrong_secret_is_told_to_the_pipeline_and_is_no_fault_of_the_photo() -> None:
    async with in_process(create_app(service="test", version="1", internal_key=SecretStr(KEY))) as http:
        with pytest.raises(Problem) as raised:
            await HttpRetrieval(http).info()
        assert raised.value.status >= 500 and not isinstance(raised.value, Unauthorized)
        assert "internal_key" in raised.value.detail


def test_a_model_service_that_others_can_reach_does_not_start_without_the_secret() -> None:
    with pytest.raises(SystemExit, match="--internal-key"):
        Settings.from_command_line("segmenter", ["--host", "0.0.0.0"])
    with pytest.raises(SystemExit, match="--internal-key"):
        Settings.from_command_line("segmenter", ["--host", "0.0.0.0", "--internal-key", "secret"])
    assert Settings.from_command_line("segmenter", ["--host", "0.0.0.0", "--internal-key", KEY]).internal_key
    assert Settings.from_command_line("segmenter", ["--host", "0.0.0.0", "--dev", "true"]).dev
    assert Settings.from_command_line("segmenter", []).internal_key is None
