"""Transactions that are never cut off in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def whole(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Awaitable[T]]:
    """A cancelled caller waits until the transaction has ended, and is cancelled then.

    One that is cut off while its statement runs in another thread, or on its way to PostgreSQL, leaves a connection in
    the middle of something.
    """

    @wraps(method)
    async def finished(*args: P.args, **kwargs: P.kwargs) -> T:
        task = asyncio.ensure_future(method(*args, **kwargs))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            while not task.done():  # however often it is cancelled
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([task])
            raise

    return finished
