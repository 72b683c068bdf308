"""The queue server of the one-process mode: private, lasting, and never in its own way."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from redis import Redis

from services.common.jobs import embedded


def test_what_is_queued_survives_kill_9_of_the_server(tmp_path: Path) -> None:
    with embedded.running(tmp_path) as url, Redis.from_url(url) as client:
        client.set("job", "claim")
        pid = int(client.info("server")["process_id"])
        client.execute_command("WAITAOF", 1, 0, 2000)  # the promise is once a second, not at once
        os.kill(pid, signal.SIGKILL)
    with embedded.running(tmp_path) as url, Redis.from_url(url) as client:
        assert client.get("job") == b"claim"


def test_a_server_left_behind_is_stopped_and_its_data_kept(tmp_path: Path) -> None:
    orphan = embedded._start(tmp_path)
    with Redis(unix_socket_path=str(tmp_path / "valkey.sock")) as client:
        embedded._wait(client, orphan, tmp_path / "valkey.log")
        client.set("job", "claim")
    with embedded.running(tmp_path) as url, Redis.from_url(url) as client:
        assert client.get("job") == b"claim"
        assert int(client.info("server")["process_id"]) != orphan.pid
    assert orphan.wait(10) == 0


def test_only_its_owner_may_speak_to_it_and_it_never_forgets(tmp_path: Path) -> None:
    with embedded.running(tmp_path) as url, Redis.from_url(url) as client:
        assert (tmp_path / "valkey.sock").stat().st_mode & 0o077 == 0
        assert client.config_get("port") == {"port": "0"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_a_folder_with_a_space_is_served(tmp_path: Path) -> None:
    with embedded.running(tmp_path / "my data") as url, Redis.from_url(url) as client:
        assert client.ping()


def test_a_path_too_long_for_a_socket_is_explained(tmp_path: Path) -> None:
    with pytest.raises(embedded.ServerError, match="shorter path"), embedded.running(tmp_path / ("d" * 100)):
        pass


def test_a_server_that_cannot_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").write_text("not a folder")
    with pytest.raises(embedded.ServerError, match="appendonlydir"), embedded.running(tmp_path):
        pass
