"""Everything in one process, started as `make run` starts it."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx2
import pytest

from services.standalone import address
from tests.e2e.processes import Service, post_claim, running
from tests.e2e.scenes import damaged_car, pack_environment
from tests.unit.gateway.servers import free_port

MODULE = "services.standalone"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    return pack_environment(tmp_path_factory.mktemp("packs"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, environment: Mapping[str, str]) -> Iterator[tuple[str, Service]]:
    folder, port = tmp_path_factory.mktemp("one"), free_port()
    arguments = ("--port", str(port), "--data", str(folder / "my data"))
    with running(MODULE, *arguments, log=folder / "log", environment=environment) as service:
        service.wait_until_ready(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}", service


def _start(folder: Path, environment: Mapping[str, str]) -> tuple[str, Service]:
    port = free_port()
    arguments = ("--port", str(port), "--data", str(folder / "data"))
    service = Service(MODULE, *arguments, log=folder / "log", environment=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        service.wait_until_ready(url)
    except AssertionError:
        service.stop()
        raise
    return url, service


def test_a_claim_is_answered_with_findings_and_an_overlay(served: tuple[str, Service]) -> None:
    url, service = served
    answer = post_claim(url, damaged_car())
    assert answer.status_code == 200, answer.text + service.tail()
    (photo,) = answer.json()["photos"]
    assert [finding["damage"] for finding in photo["findings"]] == ["dent"]
    assert httpx2.get(url + photo["links"]["overlay"], timeout=30).headers["content-type"] == "image/webp"


def test_it_says_where_it_serves_and_how_to_send_a_photo(served: tuple[str, Service]) -> None:
    url, service = served
    service.wait_until_it_says(f"Claimsight is ready: {url}")  # the gateway is ready before the memory is
    assert f"curl -F photos=@car.jpg -H 'Prefer: wait=30' {url}/v1/claims" in service.log.read_text()


def test_a_taken_port_is_explained(tmp_path: Path, environment: Mapping[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        arguments = ("--port", str(port), "--data", str(tmp_path / "data"))
        with running(MODULE, *arguments, log=tmp_path / "log", environment=environment) as service:
            assert service.process.wait(240) == 1
    assert f"Cannot listen on 127.0.0.1:{port}" in service.tail()
    assert "CLAIMSIGHT_PORT=" in service.tail()
    assert "Traceback" not in service.tail()


def test_a_missing_pack_ends_the_start_and_is_named(tmp_path: Path, environment: Mapping[str, str]) -> None:
    without = {**environment, "CLAIMSIGHT_CLASSIFIER_PACK": str(tmp_path / "nowhere")}
    arguments = ("--port", "0", "--data", str(tmp_path / "data"))
    with running(MODULE, *arguments, log=tmp_path / "log", environment=without) as service:
        assert service.process.wait(240) == 1
    assert "nowhere" in service.tail()
    assert "Traceback" not in service.tail()


def test_a_rooms_setting_that_does_not_fit_is_named(tmp_path: Path, environment: Mapping[str, str]) -> None:
    wrong = {**environment, "CLAIMSIGHT_SEGMENTER_PROVIDER": "gpu"}
    arguments = ("--port", "0", "--data", str(tmp_path / "data"))
    with running(MODULE, *arguments, log=tmp_path / "log", environment=wrong) as service:
        assert service.process.wait(240) == 1
    assert "CLAIMSIGHT_SEGMENTER_PROVIDER" in service.tail()
    assert "Traceback" not in service.tail()


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
    ],
)
def test_the_address_it_tells_can_be_opened(host: str, url: str) -> None:
    assert address(host, 80) == url


def test_sigterm_ends_it_well_and_the_next_start_knows_the_claims(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    url, first = _start(tmp_path, environment)
    claim = post_claim(url, damaged_car()).json()
    first.wait_until_it_remembers(url)
    assert first.stop(signal.SIGTERM) == 0, first.tail()
    assert not _queue_servers(tmp_path)
    url, second = _start(tmp_path, environment)
    try:
        assert httpx2.get(url + claim["links"]["self"], timeout=30).json()["status"] == "succeeded"
        second.wait_until_it_remembers(url)
        assert second.log.read_text().count("memory pack loaded") == 1  # by the first start only
    finally:
        assert second.stop(signal.SIGINT) == 0, second.tail()


def test_a_second_process_on_the_same_data_is_refused(tmp_path: Path, environment: Mapping[str, str]) -> None:
    _, first = _start(tmp_path, environment)
    try:
        arguments = ("--port", "0", "--data", str(tmp_path / "data"))
        with running(MODULE, *arguments, log=tmp_path / "second.log", environment=environment) as second:
            assert second.process.wait(240) == 1
        assert f"in use by another Claimsight process (pid {first.process.pid})" in second.tail()
    finally:
        first.stop()


def test_kill_9_loses_no_accepted_claim_and_does_not_block_the_next_start(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    environment = {**environment, "CLAIMSIGHT_GATEWAY_LOCK_SECONDS": "2"}  # else a claim in hand is taken over in 30 s
    url, first = _start(tmp_path, environment)
    accepted = post_claim(url, damaged_car(), wait_s=0)
    assert accepted.status_code in (200, 202)
    first.stop(signal.SIGKILL)
    url, second = _start(tmp_path, environment)
    try:
        claim = httpx2.get(f"{url}{accepted.json()['links']['self']}?wait=60", timeout=90).json()
        assert claim["status"] == "succeeded", second.tail()
    finally:
        assert second.stop() == 0
    assert not _queue_servers(tmp_path)


def _queue_servers(folder: Path) -> list[Path]:
    """Processes of queue servers that run in `folder`."""
    return [process for process in Path("/proc").glob("[0-9]*") if _serves(process, folder)]


def _serves(process: Path, folder: Path) -> bool:
    try:
        inside = (process / "cwd").readlink().is_relative_to(folder)
        return inside and b"valkey-server" in (process / "cmdline").read_bytes()
    except OSError:  # it has ended meanwhile, or is another user's
        return False
