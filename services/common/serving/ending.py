"""Ending background tasks for certain."""

from __future__ import annotations

import asyncio
from typing import Any

_AGAIN_S = 0.5


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks and wait until they have ended.

    Those that go on are cancelled again: `asyncio.wait_for`, which redis-py awaits at every write, loses a cancellation
    that arrives together with its result (Python 3.11, rewritten in 3.12), and a loop that never heard of it would
    hold a process that is to stop for ever.
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=_AGAIN_S)
