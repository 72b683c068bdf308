"""What the segment pack's manifest states beside weights: score calibration and thresholds, from validation photos."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.evaluation import Matches

Floats = NDArray[np.float64]


def logistic(x: Floats, target: Floats, *, ridge: float = 0.0, rounds: int = 50) -> Floats:
    """Weights [k] of a logistic regression of `target` [n] in [0, 1] on `x` [n, k], by Newton steps.

    `ridge` holds all weights but the last column's (a constant, by convention) near zero.
    """
    w = np.zeros(x.shape[1])
    held = np.diag([ridge] * (x.shape[1] - 1) + [0.0])
    for _ in range(rounds):
        p = 1 / (1 + np.exp(-(x @ w).clip(-50, 50)))
        gradient = x.T @ (p - target) + held @ w
        hessian = (x * (p * (1 - p))[:, None]).T @ x + held + 1e-6 * np.eye(len(w))
        w -= np.linalg.solve(hessian, gradient)
    return w


def fit_scores(photos: list[Matches]) -> tuple[float, float]:
    """Platt scaling (scale, shift) of the score's logit so that it reads as "a true instance at IoU 0.5".

    With Platt's smoothed targets against separation.
    """
    score = np.clip(np.concatenate([p.scores for p in photos]), 1e-6, 1 - 1e-6)
    hits = np.concatenate([p.hits for p in photos])
    x = np.stack([np.log(score / (1 - score)), np.ones_like(score)], 1)
    good, bad = hits.sum(), (~hits).sum()
    target = np.where(hits, (good + 1) / (good + 2), 1 / (bad + 2))
    scale, shift = logistic(x, target)
    return float(scale), float(shift)


def best_threshold(photos: list[Matches]) -> tuple[float, float, float, float]:
    """The score of highest F1, and precision, recall and F1 there."""
    scores = np.concatenate([p.scores for p in photos])
    order = np.argsort(-scores, kind="stable")
    hits = np.concatenate([p.hits for p in photos])[order]
    truths = sum(p.truths for p in photos)
    tp = np.cumsum(hits)
    precision, recall = tp / np.arange(1, len(tp) + 1), tp / truths
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    best = int(f1.argmax())
    return float(scores[order][best]), float(precision[best]), float(recall[best]), float(f1[best])


def fake_threshold(real: Floats, most: float = 0.01) -> float:
    """The least fake probability that calls at most a share `most` of real damages [n] a fake; never below 0.5.

    Real damage called a fake is the costliest error of all: the threshold asks for half of the 2 % that are allowed.
    """
    return round(float(max(0.5, np.quantile(real, 1 - most, method="higher") + 1e-3)), 4) if len(real) else 1.0
