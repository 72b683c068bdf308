"""How much a person's look at a finding would teach: the order of the review queue."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

from services.gateway.schemas import Finding

_FAR = 0.6  # cosine distance from which a crop is as new as it can be: the reach of the shipped packs' vote


@dataclass(frozen=True, slots=True)
class Informative:
    """Three signals of active learning, each in [0, 1]."""

    uncertainty: float
    disagreement: float
    novelty: float

    @property
    def score(self) -> float:
        """Their mean: nothing that was measured says that one of them should count for more."""
        return (self.uncertainty + self.disagreement + self.novelty) / 3


def informative(finding: Finding) -> Informative:
    """Uncertainty: entropy of the second opinion over its maximum (Settles 2009, section 3.1).

    Disagreement: what the second opinion gives to another damage than the segmenter's. Novelty: distance to the
    nearest past case, where the memory was asked; a finding unlike all of them is entirely new.
    """
    opinion = finding.opinion
    codes = {reason.code for reason in finding.reasons}
    nearest = min((neighbour.distance for neighbour in finding.neighbours), default=0.0)
    return Informative(
        uncertainty=_entropy(list(opinion.probabilities.values())),
        disagreement=0.0 if opinion.agrees else opinion.confidence,
        novelty=1.0 if "out_of_distribution" in codes else min(nearest / _FAR, 1.0),
    )


def _entropy(probabilities: list[float]) -> float:
    possible = [p for p in probabilities if p > 0]
    if len(possible) < 2:
        return 0.0
    return min(1.0, -sum(p * log(p) for p in possible) / log(len(probabilities)))
