"""Whether claims sent now can be accepted and assessed, and if not, what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from sqlalchemy.exc import SQLAlchemyError

from services.common.serving.errors import Problem
from services.common.serving.health import Readiness
from services.gateway.runtime import Runtime

_PATIENCE_S = 2  # a probe that waits longer is as good as refused


async def check(runtime: Runtime) -> Readiness:
    """Ready when records and queue answer and both models are warm and speak the same names.

    The memory is not asked: without it claims are still answered, unsure findings going to review.
    """
    missing = dict(
        await asyncio.gather(
            _missing("records", runtime.claims.ping()),
            _missing("queue", runtime.queue.depth()),
            _missing("models", _models(runtime)),
        )
    )
    found = {name: f"{detail.removesuffix('.')}." for name, detail in missing.items() if detail}  # whole sentences
    if not found:
        return Readiness()
    return Readiness("waiting", " ".join(found.values()), {"waiting_for": sorted(found)})


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
