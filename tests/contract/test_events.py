"""A claim's events: everything is told once, in order, and again only what a broken connection lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.gateway.routes import events
from tests.unit.gateway.fakes import Fakes, FakeSegmenter
from tests.unit.gateway.pictures import RED, photo
from tests.unit.gateway.serving import served


@dataclass(frozen=True)
class Event:
    name: str
    id: str
    data: Any


@pytest.fixture
def url(redis_url: str, tmp_path: Path) -> Iterator[str]:
    with served(tmp_path, redis_url, Fakes(segmenter=FakeSegmenter(delay_s=0.15))) as running:
        yield running


async def send(url: str, photos: int) -> str:
    files = [("photos", ("a.jpg", photo(RED))) for _ in range(photos)]
    async with httpx2.AsyncClient(base_url=url, timeout=60) as http:
        answer = await http.post("/v1/claims", files=files)
    assert answer.status_code == 202, answer.text
    return url + str(answer.headers["Location"])


@asynccontextmanager
async def listening(where: str, last: str | None = None) -> AsyncIterator[AsyncIterator[Event]]:
    headers = {} if last is None else {"Last-Event-ID": last}
    async with httpx2.AsyncClient(timeout=60) as http, http.stream("GET", f"{where}/events", headers=headers) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        yield _parsed(answer)


async def _parsed(answer: httpx2.Response) -> AsyncIterator[Event]:
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "data" in fields:
            yield Event(fields["event"], fields["id"], json.loads(fields["data"]))
            fields = {}


async def test_a_claim_is_told_from_its_first_place_in_the_queue_to_its_summary(url: str) -> None:
    where = await send(url, 3)
    async with asyncio.timeout(60), listening(where) as stream:
        told = [event async for event in stream]
    photos = [event.data for event in told if event.name == "photo"]
    assert told[0].name == "status" and told[-1].name == "final"
    assert told[-1].data["status"] == "succeeded" and told[-1].data["summary"]["findings"] == 3
    assert len({each["id"] for each in photos}) == len(photos) == 3 and all(each["findings"] for each in photos)
    assert [event.data["progress"]["done"] for event in told if event.name == "status"][-1] == 3


async def test_a_broken_connection_is_resumed_without_a_photo_lost_or_told_twice(url: str) -> None:
    where = await send(url, 5)
    seen: list[str] = []
    last: str | None = None
    ended = False
    async with asyncio.timeout(60):
        while not ended:
            async with listening(where, last) as stream:
                async for event in stream:
                    last, ended = event.id, event.name == "final"
                    if event.name == "photo":
                        seen.append(event.data["id"])
                        break  # the connection breaks after every photo
    assert len(seen) == len(set(seen)) == 5


async def test_whoever_heard_the_end_is_told_not_to_come_back(url: str) -> None:
    where = await send(url, 1)
    async with asyncio.timeout(60), listening(where) as stream:
        last = [event async for event in stream][-1]
    async with httpx2.AsyncClient(timeout=60) as http:
        again = await http.get(f"{where}/events", headers={"Last-Event-ID": last.id})
        late = await http.get(f"{where}/events", headers={"Last-Event-ID": "no id of ours"})
    assert again.status_code == 204
    assert late.status_code == 200 and "event: final" in late.text  # a finished claim is told at once


async def test_a_silent_stream_is_kept_open_with_heartbeats(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_HEARTBEAT_S", 0.02)
    monkeypatch.setattr(events, "_LOOK_AGAIN_S", 0.01)
    slow = Fakes(segmenter=FakeSegmenter(delay_s=1.5))
    with served(tmp_path, redis_url, slow) as url:
        where = await send(url, 1)
        async with asyncio.timeout(60), httpx2.AsyncClient(timeout=60) as http:
            assert ": ping" in (await http.get(f"{where}/events")).text


async def test_an_unknown_claim_has_no_events(url: str) -> None:
    async with httpx2.AsyncClient(timeout=60) as http:
        assert (await http.get(f"{url}/v1/claims/clm_01M7YXRDS94GYE754JKJY830YH/events")).status_code == 404
