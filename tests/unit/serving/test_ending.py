"""A process that is to stop stops, whatever becomes of one cancellation."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from services.common.serving.ending import end


async def test_a_task_that_loses_its_first_cancellation_ends_all_the_same() -> None:
    async def deaf() -> None:
        with suppress(asyncio.CancelledError):  # as a library does that loses it
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    tasks = [asyncio.create_task(deaf()), asyncio.create_task(asyncio.sleep(60)), asyncio.create_task(asyncio.sleep(0))]
    await asyncio.sleep(0.01)
    async with asyncio.timeout(20):
        await end(*tasks)
    assert [task.done() for task in tasks] == [True] * 3
    await end()
