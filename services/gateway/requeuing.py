"""Comparing the records with a queue, again and again: what it forgot, or never heard of, is queued."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from services.common.serving.errors import Problem

log = structlog.get_logger(__name__)


async def keep_queued(requeue: Callable[[int], Awaitable[None]], every_s: float) -> None:
    """Call `requeue` with the least age (ms) of what it should look at, at once and then every `every_s`, for ever.

    At the start, whatever is unfinished and not queued was lost; later, an upload may be about to queue.
    """
    grace_ms = 0
    while True:
        try:
            await requeue(grace_ms)
            grace_ms = int(every_s * 1000)
        except Problem as problem:
            log.warning("cannot compare the records with the queue", detail=problem.detail)
        except Exception:
            log.exception("cannot compare the records with the queue")
        await asyncio.sleep(every_s)
