"""Nobody's work is done for a client that has gone."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from services.common.serving.disconnect import while_connected


def connected(leaves: asyncio.Event) -> Request:
    async def receive() -> Message:
        await leaves.wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)


async def test_work_is_cancelled_when_the_client_leaves() -> None:
    leaves, cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    asyncio.get_running_loop().call_later(0.01, leaves.set)
    with pytest.raises(ClientDisconnect):
        await while_connected(connected(leaves), work())
    assert cancelled.is_set()


async def test_results_and_errors_pass_through() -> None:
    async def fine() -> int:
        return 7

    async def broken() -> int:
        raise ValueError("x")

    never = asyncio.Event()
    assert await while_connected(connected(never), fine()) == 7
    with pytest.raises(ValueError, match="x"):
        await while_connected(connected(never), broken())
