"""Erasing a claim for good: rows, files and cases of the memory; and by age, where claims are not kept for ever."""

from __future__ import annotations

import asyncio

import structlog
from sqlalchemy.exc import SQLAlchemyError

from services.common.serving.errors import NotFound, Problem
from services.gateway import withdrawn
from services.gateway.records.clock import now_ms
from services.gateway.records.erasures import Cause, Erasure
from services.gateway.runtime import Runtime

log = structlog.get_logger(__name__)

_DAY_MS = 24 * 3600 * 1000


async def erase(
    runtime: Runtime, claim_id: str, tenant: str, cause: Cause, key_id: str | None = None
) -> Erasure | None:
    """The receipt; None where the tenant has no such claim. With the photo store away, it completes later."""
    begun = await runtime.erasures.begin(claim_id, tenant, cause, key_id)
    if begun is None:
        return None
    log.info("claim erased", claim=claim_id, cause=cause, erasure=begun.id)
    await withdrawn.tell(runtime, claim_id)
    return await _complete(runtime, begun)


async def sweep(runtime: Runtime) -> None:
    """Complete what is left of earlier erasures, erase claims that are too old, forget old idempotency keys."""
    for erasure in await runtime.erasures.pending():
        await _complete(runtime, erasure)
    days = runtime.settings.retention_days
    while days and (aged := await runtime.erasures.aged(now_ms() - int(days * _DAY_MS))):
        for claim in aged:
            await erase(runtime, claim.id, claim.tenant, "retention")
    await runtime.idempotency.forget_expired()


async def run(runtime: Runtime) -> None:
    """Sweep for ever."""
    while True:
        try:
            await sweep(runtime)
        except (Problem, SQLAlchemyError, OSError) as error:
            log.warning("what is to be erased waits", error=str(error))
        except Exception:  # a sweep that ends in silence would keep for ever what was to be erased
            log.exception("what is to be erased waits")
        await asyncio.sleep(runtime.settings.sweep_seconds)


async def _complete(runtime: Runtime, erasure: Erasure) -> Erasure:
    try:
        files = sum([await runtime.photos.erase(photo_id) for photo_id in erasure.left["photos"]])
        for case_id in erasure.left["cases"]:
            await _forget(runtime, case_id, erasure.tenant)
    except Problem as problem:
        log.warning("an erasure is completed later", erasure=erasure.id, why=problem.detail)
        return erasure
    except Exception:  # else it would hold up all that come after it
        log.exception("an erasure is completed later", erasure=erasure.id)
        return erasure
    return await runtime.erasures.complete(erasure.id, files)


async def _forget(runtime: Runtime, case_id: str, tenant: str) -> None:
    try:
        await runtime.clients.retrieval.retract(case_id, tenant=tenant)
    except NotFound:  # nothing was learned from that decision
        return
