"""How many synchronous requests are worked on at once, and how many may wait for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.common.serving.errors import QueueFull


class Turnstile:
    """Lets `at_once` through; `waiting` more wait their turn, everyone else is refused at once.

    Enter it with the whole request in hand: a client that sends slowly must not hold a place.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._turn = asyncio.Semaphore(at_once)
        self._most = at_once + waiting
        self._inside = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Raises QueueFull."""
        if self._inside >= self._most:
            raise QueueFull(f"{self._inside} requests are being answered; send this again in a moment", retry_after=1)
        self._inside += 1
        try:
            async with self._turn:
                yield
        finally:
            self._inside -= 1
