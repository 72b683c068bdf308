"""The fallback's numbers tuned on validation crops: lambda, k, sharpness and the threshold tau.

Written into the manifest beside the paper's (0.6, 0.7), which are what is served. Nothing here sees a test photo.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.statistics import fit_temperature, nll, precision_at_least
from services.common.vision.vote import calibrated

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FOLDS = 5
LAMBDAS = tuple(round(0.5 + 0.05 * i, 2) for i in range(11))
KS = (5, 10, 15, 25)
SHARPNESS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
TARGET = 0.9  # precision that an answer without review must have, by its lower 95 % bound
LEAST = 40  # answers of one class below which its threshold is that of all rare classes together


@dataclass(frozen=True)
class Blend:
    """lambda P_model + (1 - lambda) P_neighbours, over k neighbours with weights exp(-distance / sharpness)."""

    lam: float
    k: int
    sharpness: float

    def __call__(self, p_model: Floats, distances: Floats, labels: Ints) -> Floats:
        """`p_model` [n, C], `distances` and `labels` [n, >= k], nearest first -> [n, C]."""
        d, y = distances[:, : self.k], labels[:, : self.k]
        w = np.exp((d[:, :1] - d) / self.sharpness)
        votes = np.zeros_like(p_model)
        np.add.at(votes, (np.arange(len(d))[:, None], y), w)
        return np.asarray(self.lam * p_model + (1 - self.lam) * votes / votes.sum(1, keepdims=True))


def cross_fitted(logits: Floats, labels: Ints, group: Ints, taught: NDArray[np.bool_]) -> Floats:
    """Calibrated probabilities [n, C], each by a temperature that was fitted on other photos (folds of `group`)."""
    p = np.zeros_like(logits, np.float64)
    fold = _folds(group)
    for f in range(FOLDS):
        held = fold == f
        if held.any():
            p[held] = calibrated(logits[held], fit_temperature(logits[~held], labels[~held], taught), taught)
    return p


def _folds(group: Ints) -> Ints:
    """A fold per row; rows of one photo share it."""
    index = np.unique(group, return_inverse=True)[1]
    order = np.random.default_rng(0).permutation(int(index.max()) + 1)
    return np.asarray(order[index] % FOLDS, np.int64)


def fit_blend(p_model: Floats, labels: Ints, distances: Floats, neighbour_labels: Ints, *, tau: float) -> Blend:
    """The blend of least NLL over the crops that would be blended, top probability <= tau (all, where they are few).

    Neighbours must be of other photos: the caller leaves a photo's own crops out.
    """
    unsure = np.flatnonzero(p_model.max(1) <= tau)
    rows = unsure if len(unsure) >= 30 else np.arange(len(labels))
    blends = (Blend(lam, k, s) for k in KS if k <= distances.shape[1] for s in SHARPNESS for lam in LAMBDAS)
    return min(blends, key=lambda b: nll(b(p_model[rows], distances[rows], neighbour_labels[rows]), labels[rows]))


def fit_tau(p: Floats, labels: Ints, target: float = TARGET) -> float:
    """The smallest threshold above which answers are right often enough: the lower 95 % bound of their precision is at
    least `target`. 1.0, so that everything goes to review, where there is none."""
    top, hits = p.max(1), p.argmax(1) == labels
    for tau in np.arange(0.3, 1.0, 0.01):
        taken = top > tau
        if precision_at_least(int(hits[taken].sum()), int(taken.sum())) >= target:
            return round(float(tau), 2)
    return 1.0


def fit_taus(p: Floats, labels: Ints, names: list[str], target: float = TARGET) -> dict[str, float]:
    """A threshold per answered class; classes with fewer than LEAST answers are pooled."""
    guess = p.argmax(1)
    answered = np.bincount(guess, minlength=len(names))
    rare = np.isin(guess, np.flatnonzero(answered < LEAST))
    taus = {}
    for c in np.flatnonzero(answered):
        rows = guess == c if answered[c] >= LEAST else rare
        taus[names[c]] = fit_tau(p[rows], labels[rows], target)
    return taus


@dataclass(frozen=True)
class Tuned:
    """What validation says should be served; kept in the manifest beside what is."""

    blend: Blend
    tau: float
    taus: dict[str, float]

    def thresholds(self) -> dict[str, float]:
        """Entries of the manifest."""
        fixed = {"tuned.tau": self.tau, "tuned.lambda": self.blend.lam, "tuned.k": float(self.blend.k)}
        by_class = {f"tuned.tau.{name}": tau for name, tau in self.taus.items()}
        return {**fixed, "tuned.sharpness": self.blend.sharpness, **by_class}


def tune(
    logits: Floats,
    labels: Ints,
    group: Ints,
    distances: Floats,
    neighbour_labels: Ints,
    *,
    taught: NDArray[np.bool_],
    names: list[str],
    tau: float,
) -> Tuned:
    """Everything on cross-fitted probabilities: no number is tuned on a temperature that saw the same photo."""
    p = cross_fitted(logits, labels, group, taught)
    blend = fit_blend(p, labels, distances, neighbour_labels, tau=tau)
    final = np.where((p.max(1) <= tau)[:, None], blend(p, distances, neighbour_labels), p)
    return Tuned(blend, fit_tau(final, labels), fit_taus(final, labels, names))
