"""Deadlines of claims: until when one is worth concluding, and ending those that were not concluded by then."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import structlog
from sqlalchemy.exc import SQLAlchemyError

from services.common.serving.context import RequestContext, current
from services.common.serving.errors import DeadlineExceeded
from services.gateway import failures, measures, withdrawn
from services.gateway.records import models
from services.gateway.records.clock import now_ms
from services.gateway.runtime import Runtime

log = structlog.get_logger(__name__)
_LOOK_S = 1.0


def context(claim: models.Claim) -> RequestContext:
    """What every question to a model service carries: there, too, work whose deadline is over is dropped."""
    if claim.expires_at is None:
        return current()
    return replace(current(), deadline=time.monotonic() + (claim.expires_at - now_ms()) / 1000)


async def run(runtime: Runtime) -> None:
    """End what is over, for ever."""
    while True:
        try:
            for claim_id in await runtime.deadlines.passed():
                await _expire(runtime, claim_id)
        except SQLAlchemyError as error:
            log.warning("deadlines cannot be looked at", error=type(error).__name__)
        except Exception:  # ended in silence, no claim would ever expire here again
            log.exception("deadlines cannot be looked at")
        await asyncio.sleep(_LOOK_S)


async def _expire(runtime: Runtime, claim_id: str) -> None:
    over = DeadlineExceeded("The claim was not concluded by its deadline. What was assessed until then stays.")
    if await runtime.deadlines.expire(claim_id, failures.embedded(over)):
        log.warning("claim expired", claim=claim_id)
        measures.claim_ended(claim_id, "expired", ())
        await withdrawn.tell(runtime, claim_id)
