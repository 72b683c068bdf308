"""Numbers with intervals: accuracy by photo bootstrap, calibration errors, precision and recall by class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def bootstrap_mean(values: NDArray[np.generic], group: Ints, rounds: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean, resampling whole groups: crops of one photo are not independent."""
    rng = np.random.default_rng(seed)
    index = np.unique(group, return_inverse=True)[1]
    n = int(index.max()) + 1
    total, count = np.bincount(index, np.asarray(values, np.float64), n), np.bincount(index, minlength=n)
    draws = rng.integers(0, n, (rounds, n))
    means = total[draws].sum(1) / count[draws].sum(1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


@dataclass(frozen=True)
class ClassRow:
    """One class of a classification report."""

    name: str
    n: int
    precision: float
    recall: float
    f1: float
    average_precision: float


def class_rows(probabilities: Floats, labels: Ints, names: list[str]) -> list[ClassRow]:
    """Precision, recall, F1 at the arg max, and AP of the one-vs-rest ranking, for every class that occurs."""
    guess = probabilities.argmax(1)
    rows = []
    for c, name in enumerate(names):
        truth = labels == c
        if not truth.any():
            continue
        hit = float((truth & (guess == c)).sum())
        precision, recall = hit / max((guess == c).sum(), 1), hit / truth.sum()
        f1 = 2 * precision * recall / max(precision + recall, 1e-12)
        order = np.argsort(-probabilities[:, c], kind="stable")
        found = np.cumsum(truth[order])
        ap = float((found / np.arange(1, len(order) + 1))[truth[order]].mean())
        rows.append(ClassRow(name, int(truth.sum()), float(precision), float(recall), float(f1), ap))
    return rows


@dataclass(frozen=True)
class Precisions:
    """Three different numbers that papers call "AP": the mean of the classes' APs, that mean weighted by n, and the AP
    of all one-vs-rest scores in one ranking."""

    macro: float
    weighted: float
    micro: float


def average_precisions(probabilities: Floats, labels: Ints) -> Precisions:
    """Over the classes that occur in `labels`."""
    seen = np.unique(labels)
    rows = class_rows(probabilities, labels, [str(c) for c in range(probabilities.shape[1])])
    aps, n = np.array([r.average_precision for r in rows]), np.array([r.n for r in rows])
    flat = np.stack([1 - probabilities[:, seen].ravel(), probabilities[:, seen].ravel()], 1)
    truth = (labels[:, None] == seen).ravel().astype(np.int64)
    micro = class_rows(flat, truth, ["", "hit"])[-1].average_precision
    return Precisions(float(aps.mean()), float((aps * n).sum() / n.sum()), micro)


def bootstrap_of(
    measure: Callable[[Ints], float], group: Ints, rounds: int = 200, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of `measure(rows)`, resampling whole groups of rows: for what is not a mean over rows."""
    rng = np.random.default_rng(seed)
    index = np.unique(group, return_inverse=True)[1]
    members = [np.flatnonzero(index == g) for g in range(int(index.max()) + 1)]
    n = len(members)
    values = [measure(np.concatenate([members[g] for g in rng.integers(0, n, n)])) for _ in range(rounds)]
    return float(np.nanquantile(values, 0.025)), float(np.nanquantile(values, 0.975))


def confusion(probabilities: Floats, labels: Ints, classes: int) -> Ints:
    """[true, predicted] counts."""
    out = np.zeros((classes, classes), np.int64)
    np.add.at(out, (labels, probabilities.argmax(1)), 1)
    return out


def nll(probabilities: Floats, labels: Ints) -> float:
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-9)).mean())


def brier(probabilities: Floats, labels: Ints) -> float:
    """Mean squared distance to the one-hot truth, in [0, 2] (Brier 1950)."""
    hot = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - hot) ** 2).sum(1).mean())


def precision_at_least(hits: int, n: int) -> float:
    """Lower 95 % bound of a share of which `hits` of `n` were seen (Clopper & Pearson 1934, one-sided)."""
    return 0.0 if hits == 0 else float(beta.ppf(0.05, hits, n - hits + 1))


def ece(confidence: Floats, hits: NDArray[np.bool_], bins: int = 15) -> float:
    """Expected calibration error with bins of equal count."""
    order = np.argsort(confidence)
    parts = np.array_split(order, min(bins, len(order)))
    return float(sum(len(p) * abs(confidence[p].mean() - hits[p].mean()) for p in parts) / len(order))


def ece_band(confidence: Floats, bins: int = 15, rounds: int = 500, seed: int = 0) -> float:
    """The ECE below which 95 % of perfectly calibrated models with these confidences fall (simulated)."""
    rng = np.random.default_rng(seed)
    return float(
        np.quantile([ece(confidence, rng.random(len(confidence)) < confidence, bins) for _ in range(rounds)], 0.95)
    )


def fit_temperature(logits: Floats, labels: Ints, supported: NDArray[np.bool_]) -> float:
    """The temperature that minimises the negative log likelihood over supported classes (golden-section search)."""
    masked = np.where(supported, logits, -np.inf)

    def loss(log_t: float) -> float:
        z = masked / np.exp(log_t)
        z = z - z.max(1, keepdims=True)
        return float((np.log(np.exp(z).sum(1)) - z[np.arange(len(labels)), labels]).mean())

    low, high, ratio = np.log(0.2), np.log(5.0), (np.sqrt(5) - 1) / 2
    for _ in range(60):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, b) if loss(a) < loss(b) else (a, high)
    return float(np.exp((low + high) / 2))
