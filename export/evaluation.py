"""Average precision with intervals: COCO's greedy matching and 101-point interpolation, resampled by photo.

The small core that a bootstrap can afford to run thousands of times. It agrees with pycocotools to 1e-6 on the same
input (tests).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Matches:
    """Detections of one photo after matching: scores [n], hits [n], and how many true instances there were."""

    scores: Floats
    hits: NDArray[np.bool_]
    truths: int


def match(scores: Floats, iou: Floats, threshold: float = 0.5) -> Matches:
    """Greedy by score: each detection takes the unmatched truth of highest IoU >= threshold. `iou`: [n, m]."""
    hits = np.zeros(len(scores), bool)
    for i, _ in match_pairs(scores, iou, threshold):
        hits[i] = True
    return Matches(scores, hits, iou.shape[1])


def match_pairs(scores: Floats, iou: Floats, threshold: float = 0.5) -> list[tuple[int, int]]:
    """The matches themselves: (detection, truth), best detection first."""
    free = np.ones(iou.shape[1], bool)
    pairs = []
    for i in np.argsort(-scores, kind="stable"):
        candidates = np.where(free, iou[i], -1.0) if len(free) else np.zeros(0)
        if len(candidates) and candidates.max() >= threshold:
            j = int(candidates.argmax())
            free[j] = False
            pairs.append((int(i), j))
    return pairs


def average_precision(photos: list[Matches]) -> float:
    """101-point interpolated AP over all photos; nan without a true instance."""
    truths = sum(p.truths for p in photos)
    if truths == 0:
        return float("nan")
    scores = np.concatenate([p.scores for p in photos]) if photos else np.zeros(0)
    hits = np.concatenate([p.hits for p in photos])[np.argsort(-scores, kind="stable")]
    tp, fp = np.cumsum(hits), np.cumsum(~hits)
    recall = tp / truths
    precision = tp / np.maximum(tp + fp, 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]  # best precision at this recall or a higher one
    at = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return float(
        np.where(
            at < len(precision), precision[np.minimum(at, max(len(precision) - 1, 0))] if len(precision) else 0.0, 0.0
        ).mean()
    )


def bootstrap(photos: list[Matches], rounds: int = 500, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the AP, resampling photos with replacement."""
    rng = np.random.default_rng(seed)
    values = [average_precision([photos[i] for i in rng.integers(0, len(photos), len(photos))]) for _ in range(rounds)]
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def mask_iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Floats:
    """IoU of all pairs of bool masks [n, h, w] and [m, h, w] -> [n, m]."""
    cells = int(np.prod(a.shape[1:]))  # said, not inferred: either side may be empty
    x, y = a.reshape(len(a), cells).astype(np.float32), b.reshape(len(b), cells).astype(np.float32)
    inter = x @ y.T
    union = x.sum(1)[:, None] + y.sum(1)[None] - inter
    return np.asarray(inter / np.maximum(union, 1), np.float64)
