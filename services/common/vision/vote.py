"""From logits and neighbours to one decision: calibration, the neighbours' vote, the blend (CropResMoE)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

NEIGHBOURS = 15  # k of the vote (the paper names none)
NEAR = 0.15  # how far what a person said of another photo reaches: to there all of it was right (docs/benchmarks.md)


class Rule(TypedDict):
    """The numbers of `decide`. Distances mean something in one embedding only, so a classifier's pack states them."""

    tau: float
    lam: float
    sharpness: float
    max_distance: float
    near: float


def rule(thresholds: Mapping[str, float]) -> Rule:
    """The rule in a pack's `thresholds`; where they are silent the paper's tau and lambda, and a cautious reach."""
    return Rule(
        tau=thresholds.get("tau", 0.6),
        lam=thresholds.get("lambda", 0.7),
        sharpness=thresholds.get("sharpness", 0.1),
        max_distance=thresholds.get("max_distance", 0.5),
        near=thresholds.get("near", NEAR),
    )


@dataclass(frozen=True, eq=False, slots=True)
class Decision:
    """What the model and its memory say together about one crop.

    "accept": the model alone was sure; "blended": sure together with past cases; "review": a person should look.
    `label` indexes `probabilities` [n_classes], where `confidence` stands.
    """

    outcome: Literal["accept", "blended", "review"]
    probabilities: Floats
    label: int
    confidence: float


def calibrated(logits: ArrayLike, temperature: float, supported: ArrayLike) -> Floats:
    """softmax(logits / temperature) over [..., n_classes], classes outside of the bool mask `supported` at 0.

    Temperature scaling after Guo et al. 2017. ValueError where no class is supported or a logit is not finite: a
    model that fails must not read as a model that is unsure.
    """
    z, mask = np.asarray(logits, np.float64), np.asarray(supported, bool)
    if temperature <= 0 or not mask.any() or not np.isfinite(z).all():
        raise ValueError("calibration wants finite logits, a positive temperature and a supported class")
    z = np.where(mask, z / temperature, -np.inf)
    e = np.exp(z - z.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def vote(
    distances: ArrayLike, labels: ArrayLike, n_classes: int, sharpness: float, weights: ArrayLike | None = None
) -> Floats:
    """P_retrieval [n_classes]: each of k neighbours votes for its label with exp(-distance / sharpness).

    `distances` [k] are cosine distances, `labels` [k] class indices; `weights` [k] multiply the votes (a rarer class
    or a human's label may count more). The paper names no weight: an exponential stays finite at distance 0.
    """
    d, y = np.asarray(distances, np.float64), np.asarray(labels, np.int64)
    if len(d) == 0 or sharpness <= 0:
        raise ValueError("a vote wants at least one neighbour and a positive sharpness")
    w = np.exp((d.min() - d) / sharpness)  # from the nearest: the shares are the same and cannot all underflow
    votes = np.bincount(y, w if weights is None else w * np.asarray(weights, np.float64), n_classes)
    if len(votes) != n_classes or not votes.sum() > 0:
        raise ValueError(f"a vote wants labels below {n_classes} and weights that are not all zero")
    return np.asarray(votes / votes.sum())


def blend(p_model: ArrayLike, p_retrieval: ArrayLike, lam: float) -> Floats:
    """P_final = lambda P_model + (1 - lambda) P_retrieval (CropResMoE, fallback of the semi-automatic labelling)."""
    return lam * np.asarray(p_model, np.float64) + (1 - lam) * np.asarray(p_retrieval, np.float64)


def decide(
    p_model: ArrayLike,
    distances: ArrayLike = (),
    labels: ArrayLike = (),
    *,
    human: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    tau: float = 0.6,
    lam: float = 0.7,
    sharpness: float = 0.1,
    max_distance: float = 0.5,
    near: float = NEAR,
) -> Decision:
    """Keep the model's answer, blend it with its neighbours', or ask a person.

    `p_model` [n_classes] is calibrated; `distances`, `labels`, `human` (a person gave the label) and `weights` are
    [k], for the neighbours. Neighbours beyond `max_distance` know nothing about the crop and are ignored.

    The model keeps its answer when its top probability is above tau (strictly), else the blend's must be. paper: a
    blend always gets its label; here: below tau it goes to review; because an unsure label teaches the memory errors.
    People who labelled a crop within `near` of this one saw the same damage: they alone vote then, and an answer that
    contradicts them is never taken unseen, however sure the model is.
    """
    p = np.asarray(p_model, np.float64)
    d, y = np.asarray(distances, np.float64), np.asarray(labels, np.int64)
    known = d <= max_distance
    told = known & (d <= near) & (np.zeros(len(d), bool) if human is None else np.asarray(human, bool))

    def settled(probabilities: Floats) -> bool:
        label = int(probabilities.argmax())
        return bool(probabilities[label] > tau and (y[told] == label).all())

    if settled(p):
        return _decision("accept", p)
    if not known.any():
        return _decision("review", p)
    voters = told if told.any() else known
    trusted = None if weights is None else np.asarray(weights, np.float64)[voters]
    p = blend(p, vote(d[voters], y[voters], len(p), sharpness, trusted), lam)
    return _decision("blended" if settled(p) else "review", p)


def _decision(outcome: Literal["accept", "blended", "review"], p: Floats) -> Decision:
    label = int(p.argmax())
    return Decision(outcome, p, label, float(p[label]))
