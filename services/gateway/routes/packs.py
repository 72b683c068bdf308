"""`/v1/packs`: which version of each model answers claims, and what another would have said."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Depends

from services.common.serving.errors import Forbidden, Problem
from services.gateway import schemas
from services.gateway.callers import DEFAULT_TENANT, Caller
from services.gateway.failures import embedded
from services.gateway.packs.compare import report
from services.gateway.packs.rules import client
from services.gateway.packs.schemas import (
    Canary,
    Comparisons,
    Packs,
    ServicePacks,
    TrialAnswer,
    TrialAnswers,
    Version,
)
from services.gateway.records.packs import Rule
from services.gateway.routes.deps import Admin, ClaimId, Running
from services.gateway.runtime import Runtime

log = structlog.get_logger(__name__)
router = APIRouter(tags=["packs"])
_COMPARED = 10_000  # the newest trials


async def _operator(caller: Admin) -> Caller:
    if caller.tenant != DEFAULT_TENANT:
        raise Forbidden("Packs answer every tenant's claims: only an admin of the tenant `default` rules about them.")
    return caller


Operator = Annotated[Caller, Depends(_operator)]
Service = Literal["segmenter", "classifier"]


@router.get("/v1/packs")
async def listed(runtime: Running, _caller: Operator) -> Packs:
    """The versions that lie with each model service, which one answers, and which one is tried beside it."""
    rules = await runtime.rules.follow()
    told = await asyncio.gather(*(_told(runtime, service, rule) for service, rule in rules.items()))
    return Packs.model_validate(dict(zip(rules, told, strict=True)))


@router.post("/v1/packs/{service}/activate")
async def activate(service: Service, wanted: Version, runtime: Running, caller: Operator) -> ServicePacks:
    """Let a version answer every claim that is begun from now on; 503 with Retry-After while it is still loading."""
    await runtime.rules.activate(service, wanted.version)
    log.warning("pack activated", service=service, version=wanted.version, by=caller.key_id)
    return await _now(runtime, service)


@router.post("/v1/packs/{service}/rollback")
async def roll_back(service: Service, runtime: Running, caller: Operator) -> ServicePacks:
    """Activate what answered before; once more, and it is as it was."""
    await runtime.rules.roll_back(service)
    log.warning("pack rolled back", service=service, by=caller.key_id)
    return await _now(runtime, service)


@router.put("/v1/packs/{service}/canary")
async def canary(service: Service, wanted: Canary, runtime: Running, caller: Operator) -> ServicePacks:
    """Let a version look at a share of the finished claims; what it says is kept beside them and changes nothing."""
    await runtime.rules.canary(service, wanted.version, wanted.share)
    log.warning("canary begun", service=service, version=wanted.version, share=wanted.share, by=caller.key_id)
    return await _now(runtime, service)


@router.delete("/v1/packs/{service}/canary")
async def end_canary(service: Service, runtime: Running, _caller: Operator) -> ServicePacks:
    """End it; what was compared stays."""
    await runtime.rules.canary(service, None, 0)
    return await _now(runtime, service)


@router.get("/v1/packs/comparisons")
async def comparisons(runtime: Running, _caller: Operator) -> Comparisons:
    """How alike the packs answered, over the newest 10,000 photos that two have seen; the latest pair first."""
    return Comparisons(data=report(await runtime.packs.newest(_COMPARED)))


@router.get("/v1/claims/{claim_id}/canary")
async def of_claim(claim_id: ClaimId, runtime: Running, _caller: Admin) -> TrialAnswers:
    """What a candidate said about the claim's photos. The claim itself knows nothing of it."""
    return TrialAnswers(
        data=[
            TrialAnswer(
                photo_id=row.photo_id,
                packs=row.pair,
                error=row.error,
                findings=row.answer.get("findings", []),
                models=row.answer.get("models", {}),
            )
            for row in await runtime.packs.of_claim(claim_id)
        ]
    )


async def _now(runtime: Runtime, service: Service) -> ServicePacks:
    told = await _told(runtime, service, (await runtime.rules.follow())[service])
    if isinstance(told, schemas.Error):
        raise Problem(told.detail)
    return told


async def _told(runtime: Runtime, service: str, rule: Rule) -> ServicePacks | schemas.Error:
    try:
        versions = await client(runtime.clients, service).packs()
    except Problem as problem:
        return embedded(problem)
    return ServicePacks(
        active=rule.active or next((pack.version for pack in versions if pack.own), None),
        previous=rule.previous,
        candidate=rule.candidate,
        share=rule.share,
        versions=versions,
    )
