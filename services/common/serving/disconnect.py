"""Stop working for a client that has gone: a request's work is cancelled when its connection closes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from services.common.serving.ending import end

T = TypeVar("T")


async def while_connected(request: Request, work: Coroutine[None, None, T]) -> T:
    """The result of `work`, which is cancelled as soon as the client leaves (then ClientDisconnect is raised).

    The body must have been read: what `receive` answers next is the disconnect.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        await end(task, gone)
        await asyncio.gather(task, gone, return_exceptions=True)  # what else they ended with concerns nobody


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
