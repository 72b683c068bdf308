"""The second opinion: the classifier where it is sure, else blended with similar past cases, else a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from services.common.serving.clients import Retrieval
from services.common.serving.errors import Problem
from services.common.serving.schemas import Classification, ModelInfo, Neighbour
from services.common.vision.vote import Decision, calibrated, decide
from services.gateway.assessment.policy import Policy

log = structlog.get_logger(__name__)
_SHOWN = 5  # neighbours that stand in a finding; all of them vote
# Distances mean something in one embedding only, so the classifier's pack states them; these are for packs that do not.
_SHARPNESS, _MAX_DISTANCE = 0.1, 0.5


@dataclass(frozen=True, slots=True)
class Judged:
    """One crop's decision, who spoke in it, and the code of the reason for review, if there is one."""

    decision: Decision
    gates: list[float]
    neighbours: list[Neighbour]
    doubt: str | None


async def judge(
    answer: Classification, info: ModelInfo, retrieval: Retrieval, policy: Policy, *, claim_id: str
) -> list[Judged]:
    """One verdict per crop. The memory is asked only about crops the model is unsure of, all in one call.

    Without the memory those crops go to review with that reason: an outage there never loses a claim.
    """
    classes = info.vocabulary.classes
    supported = np.isin(classes, info.supported.get("classes", []))
    probabilities = calibrated(answer.logits, info.temperature, supported)
    unsure = np.flatnonzero(probabilities.max(1) <= policy.tau)
    known: dict[int, list[Neighbour]] | None = {}
    if len(unsure):
        found = await _search(answer.embedding[unsure], info, retrieval, policy, claim_id)
        known = None if found is None else dict(zip(unsure.tolist(), found, strict=True))
    judged = []
    for row, p in enumerate(probabilities):
        neighbours = None if known is None and row in unsure else (known or {}).get(row, [])
        decision = _decide(p, neighbours or [], info, policy)
        doubt = _doubt(p, decision, neighbours, info)
        judged.append(Judged(decision, answer.gates[row].tolist(), (neighbours or [])[:_SHOWN], doubt))
    return judged


async def _search(
    embeddings: NDArray[np.float32], info: ModelInfo, retrieval: Retrieval, policy: Policy, claim_id: str
) -> list[list[Neighbour]] | None:
    """Neighbours of each embedding, or None while the memory cannot be asked or was made by another backbone."""
    try:
        memory = await retrieval.info()
        if memory.state != "ready" or memory.backbone != info.backbone:
            log.warning("memory not usable", state=memory.state, same_backbone=memory.backbone == info.backbone)
            return None
        return await retrieval.search(embeddings, k=policy.neighbours, exclude_claim=claim_id)
    except Problem as problem:
        log.warning("memory not reachable", detail=problem.detail)
        return None


def _decide(p: NDArray[np.float64], neighbours: Sequence[Neighbour], info: ModelInfo, policy: Policy) -> Decision:
    index = {name: i for i, name in enumerate(info.vocabulary.classes)}
    voters = [neighbour for neighbour in neighbours if neighbour.label in index]
    return decide(
        p,
        [voter.distance for voter in voters],
        [index[voter.label] for voter in voters],
        human=[voter.source == "human" for voter in voters],
        tau=policy.tau,
        lam=policy.blend,
        sharpness=info.thresholds.get("sharpness", _SHARPNESS),
        max_distance=info.thresholds.get("max_distance", _MAX_DISTANCE),
    )


def _doubt(
    p: NDArray[np.float64], decision: Decision, neighbours: Sequence[Neighbour] | None, info: ModelInfo
) -> str | None:
    if decision.outcome == "accept":
        return None
    if decision.outcome == "blended":
        return "memory_disagrees" if decision.label != int(p.argmax()) else None
    if neighbours is None:
        return "memory_unavailable"
    if all(neighbour.distance > info.thresholds.get("max_distance", _MAX_DISTANCE) for neighbour in neighbours):
        return "out_of_distribution"
    return "low_confidence"
