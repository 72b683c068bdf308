"""The cap on bodies holds while they stream, announced or not, and a body that stops coming is let go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from fastapi import Request, UploadFile
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.serving.app import create_app
from services.common.serving.clients import in_process
from services.common.serving.context import current
from services.common.serving.middleware import BodyLimitMiddleware, RequestContextMiddleware

LIMIT = 1000


def app() -> ASGIApp:
    made = create_app(service="test", version="1", max_body_bytes=LIMIT)

    @made.post("/bytes")
    async def count(request: Request) -> int:
        return len(await request.body())

    @made.post("/form")
    async def form(photos: list[UploadFile]) -> int:
        return len(photos)

    @made.post("/ignores")
    async def ignores() -> str:
        return current().request_id

    return made


async def chunks(total: int, size: int = 100) -> AsyncIterator[bytes]:
    for _ in range(total // size):
        yield b"x" * size


async def test_a_body_of_exactly_the_limit_passes() -> None:
    async with in_process(app()) as http:
        assert (await http.post("/bytes", content=b"x" * LIMIT)).json() == LIMIT
        assert (await http.post("/bytes", content=chunks(LIMIT))).json() == LIMIT


@pytest.mark.parametrize("path", ["/bytes", "/ignores", "/nowhere"])
async def test_an_announced_body_over_the_limit_is_refused_before_it_is_read(path: str) -> None:
    async with in_process(app()) as http:
        answer = await http.post(path, content=b"x" * (LIMIT + 1))
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["max_bytes"] == LIMIT
    assert answer.headers["connection"] == "close"


async def test_a_body_without_length_is_counted_while_it_streams() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 100
            yield b"x" * 100

    async with in_process(app()) as http:
        answer = await http.post("/bytes", content=endless())
    assert answer.status_code == 413
    assert answer.json()["type"] == "urn:claimsight:problem:payload-too-large"
    assert sent <= LIMIT + 200


async def test_a_length_that_lies_does_not_help() -> None:
    async with in_process(app()) as http:
        answer = await http.post("/bytes", content=chunks(5000), headers={"content-length": "10"})
    assert answer.status_code == 413


async def test_a_streamed_form_over_the_limit_is_413_though_the_framework_says_400() -> None:
    async def form() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="photos"; filename="a"\r\n\r\n'
        async for chunk in chunks(5000):
            yield chunk

    async with in_process(app()) as http:
        answer = await http.post("/form", content=form(), headers={"content-type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 413


async def test_a_body_that_stops_coming_is_let_go() -> None:
    sent: list[Message] = []

    async def reads(scope: object, receive: object, send: object) -> None:
        while (await receive())["more_body"]:  # type: ignore[operator]
            pass

    messages = [{"type": "http.request", "body": b"x", "more_body": True}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    stack = RequestContextMiddleware(BodyLimitMiddleware(reads, max_bytes=LIMIT, idle_s=0.05), service="test")
    await stack({"type": "http", "method": "POST", "path": "/slow", "headers": []}, receive, send)
    assert sent[0]["status"] == 408


async def test_waiting_for_the_client_to_leave_may_take_its_time() -> None:
    async def waits(scope: object, receive: object, send: object) -> None:
        assert (await receive())["more_body"] is False  # type: ignore[operator]
        assert (await receive())["type"] == "http.disconnect"  # type: ignore[operator]

    messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.sleep(0.1)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    limit = BodyLimitMiddleware(waits, max_bytes=LIMIT, idle_s=0.02)
    await limit({"type": "http", "method": "POST", "path": "/", "headers": []}, receive, send)


async def test_a_body_that_trickles_is_let_go_although_it_never_pauses() -> None:
    async def trickle() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"x"
            await asyncio.sleep(0.02)

    async def reads(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass

    limited = BodyLimitMiddleware(reads, max_bytes=LIMIT, idle_s=0.2, least_rate=1000)
    async with in_process(limited) as http:
        answer = await http.post("/", content=trickle())
    assert answer.status_code == 408 and answer.json()["type"].endswith("body-timeout")
