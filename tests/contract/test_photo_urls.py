"""Photos given by URL: off unless an operator names hosts, and never a way to anything inside. Real servers."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.pictures import RED, photo
from tests.unit.gateway.receiver import receiving
from tests.unit.gateway.running import gateway

HERE: dict[str, Any] = {"photo_hosts": "127.0.0.1", "private_receivers": "127.0.0.1"}


async def sent(http: httpx2.AsyncClient, *urls: str, **more: Any) -> httpx2.Response:
    fields = [("photo_url", (None, url)) for url in urls]
    return await http.post("/v1/claims", files=fields, headers={"Prefer": "wait=20"}, **more)


async def test_without_named_hosts_no_url_is_taken(tmp_path: Path, redis_url: str) -> None:
    async with gateway(tmp_path, redis_url, Fakes()) as http, receiving() as host:
        answer = await sent(http, host.url)
    assert answer.status_code == 422 and "not taken here" in answer.json()["detail"] and host.got == []


async def test_a_photo_is_fetched_from_a_named_host_and_assessed_like_any_other(tmp_path: Path, redis_url: str) -> None:
    async with gateway(tmp_path, redis_url, Fakes(), **HERE) as http, receiving() as host:
        host.body = photo(RED)
        claim = (await sent(http, host.url)).json()
    assert claim["status"] == "succeeded" and claim["photos"][0]["findings"][0]["damage"] == "dent"
    assert claim["photos"][0]["bytes"] == len(host.body) and host.got[0].headers["accept-encoding"] == "identity"


async def test_one_url_that_leads_nowhere_fails_alone(tmp_path: Path, redis_url: str) -> None:
    async with gateway(tmp_path, redis_url, Fakes(), **HERE) as http, receiving() as host:
        host.body = photo(RED)
        elsewhere = "https://elsewhere.example/a.jpg"
        claim = (await sent(http, host.url, elsewhere)).json()
    assert claim["partial"] and [each["status"] for each in claim["photos"]] == ["succeeded", "failed"]
    assert claim["photos"][1]["error"]["type"].endswith("url-not-allowed")


@pytest.mark.parametrize(
    ("status", "headers", "slug"),
    [
        (404, "", "photo-unreachable"),
        (302, "Location: https://elsewhere.example/\r\n", "url-not-allowed"),
        (302, "Location: http://169.254.169.254/\r\n", "url-not-allowed"),
        (302, "Location: /hook\r\n", "photo-unreachable"),  # for ever
    ],
)
async def test_what_is_no_photo_and_redirects_elsewhere_are_refused(
    tmp_path: Path, redis_url: str, status: int, headers: str, slug: str
) -> None:
    async with gateway(tmp_path, redis_url, Fakes(), **HERE) as http, receiving(lambda: status) as host:
        host.headers = headers
        answer = await sent(http, host.url)
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (422, slug)
    assert len(host.got) <= 4


async def test_a_redirect_on_the_same_host_is_followed(tmp_path: Path, redis_url: str) -> None:
    answers = iter([302, 200])
    async with gateway(tmp_path, redis_url, Fakes(), **HERE) as http, receiving(lambda: next(answers)) as host:
        host.headers, host.body = "Location: /there\r\n", photo(RED)
        claim = (await sent(http, host.url)).json()
    assert claim["status"] == "succeeded" and [each.path for each in host.got] == ["/hook", "/there"]


async def test_a_body_larger_than_a_photo_may_be_is_not_read_to_its_end(tmp_path: Path, redis_url: str) -> None:
    async with gateway(tmp_path, redis_url, Fakes(), max_photo_bytes=1000, **HERE) as http, receiving() as host:
        host.body = photo(RED) + bytes(2_000_000)
        answer = await sent(http, host.url)
    assert answer.status_code == 422 and "more than 1000 bytes" in answer.json()["detail"]


async def test_a_named_host_that_resolves_to_something_inside_is_refused(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def getaddrinfo(self: object, host: str, port: int, **_: object) -> list[object]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.7", port))]

    async with gateway(tmp_path, redis_url, Fakes(), photo_hosts="images.example") as http:
        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
        answer = await sent(http, "https://images.example/a.jpg")
        monkeypatch.undo()
    assert "images.example" in asked
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (422, "url-not-allowed")
