"""The packs that one model service holds at once: its own, and beside it another version that a caller names.

Two at most: who asks for a third makes room by closing the one that nobody has asked for the longest, once its last
request is answered, and only then is the third loaded. So a switch drops no request, and memory holds two packs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Query

from services.common.serving.ending import end
from services.common.serving.errors import NotFound, PackRefused
from services.common.serving.golden import Contract
from services.common.serving.health import Readiness
from services.common.serving.modelhost import ModelHost
from services.common.serving.modelpack import MANIFEST, PackError, find_pack, versions
from services.common.serving.schemas import PackState
from services.common.serving.settings import ModelSettings

PackName = Annotated[
    str | None,
    Query(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="version; without it the service's own"),
]

_HELD = 2


@dataclass(eq=False)
class _Held:
    host: ModelHost
    users: int = 0  # requests that are being answered
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.idle.set()

    @contextmanager
    def used(self) -> Iterator[ModelHost]:
        self.users += 1
        self.idle.clear()
        try:
            yield self.host
        finally:
            self.users -= 1
            if not self.users:
                self.idle.set()


class PackShelf:
    """Versions of one pack by their folders' names, each behind a ModelHost; all of it in one event loop."""

    def __init__(self, service: str, task: str, contract: Contract, settings: ModelSettings) -> None:
        self._service = service
        self._task = task
        self._contract = contract
        self._settings = settings
        self._own = settings.pack
        self._held: dict[Path, _Held] = {}  # the one asked for last stands last
        self._room = asyncio.Lock()  # held while one makes room for another
        self._working: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Load the service's own pack while the app already answers its health routes; close all when it stops."""
        app.state.readiness = self.readiness
        with suppress(PackError):  # the host that loads it says so, and stays failed
            self._own = find_pack(self._settings.pack)
        own = ModelHost(self._service, self._task, self._contract, self._settings)
        self._held[self._own] = _Held(own)
        own.start()
        try:
            yield
        finally:
            await end(*self._working)
            await asyncio.gather(*(held.host.close() for held in self._held.values()))

    def using(self, version: str | None) -> AbstractContextManager[ModelHost]:
        """The pack of this version, which is not closed while it is used; None is the service's own.

        Where it was not loaded, loading begins, and until it is ready its host says NotReady. Raises PackRefused where
        it cannot be served, and NotFound where there is no such version.
        """
        path = self._own if version is None else self._own.parent / version
        held = self._held.pop(path, None)
        if held is not None and path != self._own and held.host.failed and not held.host.failed_lately:
            self._spawn(held.host.close())
            held = None  # mended meanwhile, perhaps
        if held is None:
            if not (path / MANIFEST).is_file():
                there = ", ".join(versions(self._own.parent))
                raise NotFound(f"The {self._service} has no pack {version} beside its own. There are: {there}.")
            held = self._begin(path)
        self._held[path] = held
        if path != self._own and held.host.failed:
            raise PackRefused(held.host.failed)
        return held.used()

    async def readiness(self) -> Readiness:
        """Of the pack asked for last; but one that is ready will do, and one that hangs or breaks is told first."""
        found = [await held.host.readiness() for held in self._held.values()]
        broken = [one for one in found if one.state in ("stalled", "failing")]
        ready = [one for one in found if one.ready]
        return (broken or ready or found)[-1]

    async def listed(self) -> list[PackState]:
        """Every version in the folder of the service's own, and how far those that are held have come."""
        told = {path.name: await held.host.readiness() for path, held in self._held.items()}
        return [
            PackState(
                version=version,
                state=told[version].state if version in told else "there",
                detail=told[version].detail if version in told else "",
                own=version == self._own.name,
            )
            for version in versions(self._own.parent)
        ]

    def _begin(self, path: Path) -> _Held:
        """Make room, then load: in this order, so that there are never three."""
        victims = [self._held.pop(old) for old in list(self._held)[: max(0, len(self._held) - _HELD + 1)]]
        settings = self._settings.model_copy(update={"pack": path})
        version = path.name if path != self._own else None
        held = _Held(ModelHost(self._service, self._task, self._contract, settings, version=version))

        async def load() -> None:
            async with self._room:
                for victim in victims:
                    await victim.idle.wait()
                    await victim.host.loaded()  # its thread cannot be interrupted
                    await victim.host.close()
                if self._held.get(path) is held:  # else it had to make room before it was loaded
                    held.host.start()

        self._spawn(load())
        return held

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)
