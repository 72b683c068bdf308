"""`make run` beside a Redis or Valkey server that is there already."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis
from structlog.testing import capture_logs

from services.common.jobs import embedded
from services.common.jobs.connection import PREFIX
from services.common.serving.settings import InvalidSettings
from services.standalone import queue_server
from tests.e2e.processes import post_claim, running
from tests.e2e.scenes import damaged_car, pack_environment
from tests.unit.gateway.servers import free_port

NAME = "CLAIMSIGHT_GATEWAY_REDIS_URL"


def test_a_claim_goes_through_the_named_server_and_no_other_is_started(tmp_path: Path) -> None:
    port, data = free_port(), tmp_path / "data"
    with embedded.running(tmp_path / "there") as url, Redis.from_url(url) as redis:
        environment = {**pack_environment(tmp_path / "packs"), NAME: url}
        arguments = ("--port", str(port), "--data", str(data))
        with running("services.standalone", *arguments, log=tmp_path / "log", environment=environment) as service:
            service.wait_until_ready(f"http://127.0.0.1:{port}")
            assert post_claim(f"http://127.0.0.1:{port}", damaged_car()).json()["status"] == "succeeded"
        assert list(redis.scan_iter(f"{PREFIX}:claims:*"))
    assert (data / "records.db").exists() and not (data / "queue").exists()


def test_the_log_names_the_server_and_never_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "redis://app:hush@queue.example:6379/3")
    with capture_logs() as said, queue_server(tmp_path) as url:
        assert url == "redis://app:hush@queue.example:6379/3"
    assert [line["server"] for line in said] == ["queue.example:6379/3"]
    assert "hush" not in str(said)


def test_without_a_name_it_has_a_server_of_its_own_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(NAME, raising=False)
    with capture_logs() as said, queue_server(tmp_path) as url, Redis.from_url(url) as redis:
        assert redis.ping()
    assert [line["folder"] for line in said] == [str(tmp_path / "queue")]


def test_what_is_no_url_is_refused_by_the_settings_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "queue.example:6379")
    with pytest.raises(InvalidSettings, match=f"{NAME}.*redis://"), queue_server(tmp_path):
        pass
