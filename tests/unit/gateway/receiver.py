"""A webhook receiver on a real port of this machine: keeps what it got, answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: str


@dataclass
class Receiver:
    """`answer` makes the status of the next answer."""

    answer: Callable[[], int] = lambda: 200
    got: list[Received] = field(default_factory=list)
    url: str = ""
    headers: str = ""
    body: bytes = b""

    async def until(self, count: int, seconds: float = 60) -> list[Received]:
        async with asyncio.timeout(seconds):
            while len(self.got) < count:  # noqa: ASYNC110 - requests arrive in other tasks
                await asyncio.sleep(0.02)
        return self.got

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.got.append(Received(head[0].split(" ")[1], headers, body.decode()))
        writer.write(
            f"HTTP/1.1 {self.answer()} -\r\n{self.headers}Content-Length: {len(self.body)}\r\n\r\n".encode() + self.body
        )
        await writer.drain()
        writer.close()


@asynccontextmanager
async def receiving(answer: Callable[[], int] = lambda: 200) -> AsyncIterator[Receiver]:
    receiver = Receiver(answer)
    server = await asyncio.start_server(receiver._serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield receiver
    finally:
        server.close()
