"""Whether claims sent now can be accepted and assessed, and if not, what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from services.common.serving.errors import Problem
from services.common.serving.health import Readiness
from services.gateway.runtime import Runtime

log = structlog.get_logger(__name__)

_PATIENCE_S = 2  # a probe that waits longer is as good as refused
_LOOK_S = 1.0


class Watch:
    """`check`, whose answer is logged whenever it is another one, however often it is asked."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._said: Readiness | None = None
        self._was_ready = False

    async def __call__(self) -> Readiness:
        found = await check(self._runtime)
        if found != self._said:
            self._said = found
            if found.ready:
                log.info("ready")
            else:  # while it starts, models that load are no reason for a warning
                (log.warning if self._was_ready else log.info)("not ready", why=found.detail)
            self._was_ready |= found.ready
        return found

    async def until_ready(self) -> None:
        """Ask by itself for as long as the start takes: not everybody has probes."""
        while not (await self()).ready:  # noqa: ASYNC110 - readiness is asked, not told
            await asyncio.sleep(_LOOK_S)


async def check(runtime: Runtime) -> Readiness:
    """Ready when records, queue and photo store answer and both models are warm and speak the same names.

    The memory is not asked: without it claims are still answered, unsure findings going to review.
    """
    missing = dict(
        await asyncio.gather(
            _missing("records", runtime.claims.ping()),
            _missing("queue", runtime.queue.depth()),
            _missing("photo store", runtime.photos.ping()),
            _missing("models", _models(runtime)),
        )
    )
    found = {name: _sentence(detail) for name, detail in missing.items() if detail}
    if not found:
        return Readiness()
    return Readiness("waiting", " ".join(found.values()), {"waiting_for": sorted(found)})


def _sentence(detail: str) -> str:
    return detail if detail.endswith((".", "?")) else f"{detail}."


async def _models(runtime: Runtime) -> None:
    await runtime.rules.follow()
    await runtime.clients.pinned().matching(fresh=True)


async def _missing(name: str, question: Awaitable[object]) -> tuple[str, str]:
    try:
        await asyncio.wait_for(question, _PATIENCE_S)
    except Problem as problem:
        return name, problem.detail
    except (TimeoutError, SQLAlchemyError, OSError):
        return name, f"The {name} cannot be reached."
    return name, ""
