"""The second opinion: the classifier where it is sure, else blended with similar past cases, else a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from services.common.serving.errors import Problem
from services.common.serving.protocols import Retrieval
from services.common.serving.schemas import Classification, ModelInfo, Neighbour
from services.common.vision.vote import Decision, Rule, calibrated, decide, rule
from services.gateway.assessment.policy import Policy

log = structlog.get_logger(__name__)
_SHOWN = 5  # neighbours that stand in a finding, the nearest; all of them vote


@dataclass(frozen=True, slots=True)
class Judged:
    """One crop's decision, who spoke in it, and the code of the reason for review, if there is one."""

    decision: Decision
    gates: list[float]
    neighbours: list[Neighbour]
    doubt: str | None


async def judge(
    answer: Classification, info: ModelInfo, retrieval: Retrieval, policy: Policy, *, tenant: str, claim_id: str
) -> list[Judged]:
    """One verdict per crop. The memory is asked about all of them in one call: a person may have named the same damage
    otherwise than a model that is sure of itself.

    Without the memory the crops that the model is unsure of go to review with that reason: an outage there never loses
    a claim.
    """
    classes = info.vocabulary.classes
    supported = np.isin(classes, info.supported.get("classes", []))
    probabilities = calibrated(answer.logits, info.temperature, supported)
    decided = Rule(**{**rule(info.thresholds), "tau": policy.tau, "lam": policy.blend})
    found = await _search(answer.embedding, info, retrieval, policy, tenant=tenant, claim_id=claim_id)
    judged = []
    for row, p in enumerate(probabilities):
        neighbours = found[row] if found else []
        decision = _decide(p, neighbours, classes, decided)
        told = [n.label for n in neighbours if n.source == "human" and n.distance <= decided["near"]]
        if decision.outcome == "accept":
            doubt = None
        elif found is None:
            doubt = "memory_unavailable"
        elif any(label != classes[decision.label] for label in told):
            doubt = "person_disagrees"
        else:
            doubt = _doubt(p, decision, neighbours, decided["max_distance"])
        judged.append(Judged(decision, answer.gates[row].tolist(), neighbours[:_SHOWN], doubt))
    return judged


async def _search(
    embeddings: NDArray[np.float32],
    info: ModelInfo,
    retrieval: Retrieval,
    policy: Policy,
    *,
    tenant: str,
    claim_id: str,
) -> list[list[Neighbour]] | None:
    """Neighbours of each embedding, or None while the memory cannot be asked or was made by another backbone."""
    try:
        return await retrieval.search(
            embeddings, k=policy.neighbours, tenant=tenant, backbone=info.backbone, exclude_claim=claim_id or None
        )
    except Problem as problem:
        log.warning("memory not usable", detail=problem.detail)
        return None


def _decide(p: NDArray[np.float64], neighbours: Sequence[Neighbour], classes: Sequence[str], decided: Rule) -> Decision:
    index = {name: i for i, name in enumerate(classes)}
    voters = [neighbour for neighbour in neighbours if neighbour.label in index]
    return decide(
        p,
        [voter.distance for voter in voters],
        [index[voter.label] for voter in voters],
        human=[voter.source == "human" for voter in voters],
        **decided,
    )


def _doubt(
    p: NDArray[np.float64], decision: Decision, neighbours: Sequence[Neighbour], max_distance: float
) -> str | None:
    if decision.outcome == "blended":
        return "memory_disagrees" if decision.label != int(p.argmax()) else None
    if all(neighbour.distance > max_distance for neighbour in neighbours):
        return "out_of_distribution"
    return "low_confidence"
