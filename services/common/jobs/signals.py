"""Hints that something changed, so that a waiting request need not poll. A lost hint costs a second, never truth."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.common.jobs.connection import PREFIX
from services.common.serving.ending import end

log = structlog.get_logger(__name__)
_CHANNEL = f"{PREFIX}:changed"


def end_of(key: str) -> str:
    """What to subscribe to for the end of `key` alone: who is not woken for nothing does not ask the records."""
    return f"{key}:ended"


class Signals:
    """One subscription per process, fanned out to whoever waits for an id."""

    def __init__(self, asking: Redis, listening: Redis) -> None:
        self._asking = asking
        self._listening = listening
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None
        self.ending = False

    async def publish(self, key: str, *, ended: bool = False) -> None:
        """`ended` wakes those too who wait for the end only (`end_of`). Who waits in this process is woken at once."""
        names = (end_of(key), key) if ended else (key,)
        for name in names:
            self._wake(name)
        with suppress(RedisError, OSError):  # a hint: whoever waits looks at the records once a second anyway
            async with self._asking.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.publish(_CHANNEL, name)
                await pipeline.execute()

    @contextmanager
    def subscribe(self, key: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever `key` was published; the caller clears it."""
        event = asyncio.Event()
        self._waiting[key].add(event)
        if self._task is None:
            self._task = asyncio.create_task(self._listen())
        try:
            yield event
        finally:
            self._waiting[key].discard(event)
            if not self._waiting[key]:
                del self._waiting[key]

    def end(self) -> None:
        """Wake everybody who waits, for the last time: whoever looks at `ending` answers now instead of waiting on."""
        self.ending = True
        for events in self._waiting.values():
            for event in events:
                event.set()

    async def close(self) -> None:
        if self._task is not None:
            await end(self._task)
        await self._listening.aclose()

    def _wake(self, name: str) -> None:
        for event in self._waiting.get(name, ()):
            event.set()

    async def _listen(self) -> None:
        while True:
            try:
                async with self._listening.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(_CHANNEL)
                    while True:
                        message = await channel.get_message(timeout=10)
                        if message:
                            self._wake(message["data"])
            except (RedisError, OSError) as error:
                log.info("no change hints until the queue is back", error=str(error))
                await asyncio.sleep(1)
