"""Who never finishes a request is let go: no connection is held by a client that sends a byte now and then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import uvicorn

from services.common.serving.app import create_app
from services.common.serving.run import configuration
from services.common.serving.settings import ServiceSettings
from services.common.serving.slowloris import HEAD_BYTES, Protocol

HEAD = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n"


class Hasty(Protocol):
    head_s = 1.0


@pytest.fixture
async def port() -> AsyncIterator[int]:
    config = configuration(create_app(service="test", version="1"), ServiceSettings(port=0))
    assert config.http is Protocol  # what every service is served with
    config.http = Hasty
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells it in no other way
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), 60) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("begun", [b"", HEAD])
async def test_a_head_that_never_ends_closes_the_connection(port: int, begun: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(begun)
    assert await ended(reader)
    writer.close()


async def test_a_byte_now_and_then_buys_no_time_on_a_kept_connection_either(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD + b"\r\n")
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
    started = asyncio.get_running_loop().time()
    trickling = asyncio.create_task(trickle(writer))
    with suppress(ConnectionError):  # a byte that comes after the end is answered with a reset
        while await asyncio.wait_for(reader.read(1000), 60):
            pass
    assert asyncio.get_running_loop().time() - started < 60  # of which it would trickle four times as many
    trickling.cancel()
    writer.close()


async def trickle(writer: asyncio.StreamWriter) -> None:
    for byte in HEAD * 100:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.05)


async def test_an_endless_head_is_not_kept(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD + b"X: " + b"x" * (2 * HEAD_BYTES))
    assert await ended(reader)
    writer.close()


async def test_a_connection_that_is_used_is_kept(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(3):
        writer.write(HEAD + b"\r\n")
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(0.2)
    writer.close()
