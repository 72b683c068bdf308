"""A canary: a finished claim is looked at once more by the candidate, and what it says is kept beside the claim.

It runs after the claim's end, so that nobody waits for it, and never changes the claim. Which claims is decided by
their ids alone: the same share of the same claims, whoever asks and however often.
"""

from __future__ import annotations

import hashlib

import structlog

from services.common.serving import tracing
from services.common.serving.errors import Problem
from services.common.vision.photo import PhotoError
from services.gateway import failures, schemas
from services.gateway.assessment.clients import Clients
from services.gateway.assessment.pipeline import assess, opened
from services.gateway.packs.compare import compared
from services.gateway.records import models
from services.gateway.records.packs import Rule, Trial
from services.gateway.runtime import Runtime

log = structlog.get_logger(__name__)


def chosen(claim_id: str, share: float) -> bool:
    """Whether the claim belongs to that share of all claims."""
    return int.from_bytes(hashlib.sha256(claim_id.encode()).digest()[:8]) < share * 2**64


async def run(runtime: Runtime, claim_id: str) -> None:
    """Try the candidates, if there are any and the claim is chosen. Whatever goes wrong is theirs, not the claim's."""
    try:
        rules = await runtime.rules.follow()
        trying = {service: rule for service, rule in rules.items() if rule.candidate and chosen(claim_id, rule.share)}
        claim = await runtime.claims.load(claim_id) if trying else None
        if claim is None:  # not chosen, or erased in the meantime
            return
        with tracing.span("canary"):
            pair = await _pair(runtime.clients.pinned(), trying)
            versions = {name: rule.candidate if name in trying else rule.active for name, rule in rules.items()}
            candidates = runtime.clients.asking(**versions)
            for photo in claim.photos:
                if photo.status == "succeeded" and not photo.view.get("cached"):
                    await runtime.packs.record([await _trial(runtime, candidates, claim, photo, pair)])
    except Exception as error:  # a canary must not be able to fail a worker
        log.warning("a candidate pack could not be tried", claim=claim_id, error=type(error).__name__)


async def _pair(active: Clients, trying: dict[str, Rule]) -> str:
    """Which packs are compared, in words: `segmenter 2 -> 3, classifier 2`."""
    infos = await active.matching()
    named = [(info.service, info.model.version) for info in infos]
    return ", ".join(f"{s} {v} -> {trying[s].candidate}" if s in trying else f"{s} {v}" for s, v in named)


async def _trial(runtime: Runtime, candidates: Clients, claim: models.Claim, photo: models.Photo, pair: str) -> Trial:
    try:
        data = await runtime.photos.get_photo(photo.id)
        opening = opened(data, runtime.policy)
        found = await assess(opening, candidates, runtime.policy, tenant=claim.tenant, claim_id=claim.id)
    except LookupError:
        return Trial(claim.id, photo.id, pair, {}, {}, error="not-found")
    except (PhotoError, Problem) as error:
        problem = error if isinstance(error, Problem) else failures.photo_problem(error)
        return Trial(claim.id, photo.id, pair, {}, {}, error=problem.slug)
    active = [schemas.Finding.model_validate(finding.document) for finding in photo.findings]
    answer = {
        "findings": [finding.model_dump(mode="json") for finding in found.findings],
        "models": {name: ref.model_dump() for name, ref in found.models.items()},
    }
    comparison = compared(active, found.findings, photo.timings_ms, found.timings_ms)
    return Trial(claim.id, photo.id, pair, comparison, answer)
