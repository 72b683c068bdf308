"""What the classifier pack's manifest states beside weights: temperature, the neighbours' vote, the embedding's PCA.

All of it is fitted on the validation split; the memory holds training crops only, so no crop ever retrieves itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.statistics import nll
from services.common.vision.vote import blend, vote

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

K = 15  # neighbours (table q)


@dataclass(frozen=True)
class Projection:
    """Centred PCA with partial whitening: embedding = normalise((x - centre) @ matrix)."""

    centre: NDArray[np.float32]  # [d]
    matrix: NDArray[np.float32]  # [d, k]

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        y = (x - self.centre) @ self.matrix
        return np.asarray(y / np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-6), np.float32)


def fit_projection(features: NDArray[np.float32], dims: int = 256) -> Projection:
    """PCA of training features [n, d] to `dims`, components scaled by variance^-1/4 (half-way to whitening)."""
    centre = features.mean(0)
    _, s, vt = np.linalg.svd(features - centre, full_matrices=False)
    dims = min(dims, len(s))
    scale = (s[:dims] / np.sqrt(len(features)) + 1e-6) ** -0.5
    return Projection(centre.astype(np.float32), (vt[:dims].T * scale).astype(np.float32))


def neighbours(
    queries: NDArray[np.float32], memory: NDArray[np.float32], *, k: int = K, same: NDArray[np.bool_] | None = None
) -> tuple[Floats, Ints]:
    """Cosine distances and row numbers of the k nearest, [n, k]. `same` [n, m] excludes pairs (crops of one photo)."""
    distance = 1 - queries.astype(np.float64) @ memory.astype(np.float64).T
    if same is not None:
        distance = np.where(same, np.inf, distance)
    index = np.argsort(distance, axis=1)[:, :k]
    return np.take_along_axis(distance, index, 1), index


@dataclass(frozen=True)
class Vote:
    """Sharpness of the distance-weighted vote and the distance beyond which neighbours know nothing."""

    sharpness: float
    max_distance: float


def fit_vote(
    p_model: Floats,
    labels: Ints,
    distances: Floats,
    neighbour_labels: Ints,
    classes: int,
    *,
    tau: float,
    lam: float,
    within: Floats,
) -> Vote:
    """The sharpness of least NLL of the blend over validation crops at or below tau.

    `within` are nearest-neighbour distances inside the training set (other photos only): beyond their 99th percentile a
    crop is out of distribution.
    """
    unsure = np.flatnonzero(p_model.max(1) <= tau)
    rows = unsure if len(unsure) >= 30 else np.arange(len(labels))

    def loss(sharpness: float) -> float:
        p = np.stack(
            [blend(p_model[i], vote(distances[i], neighbour_labels[i], classes, sharpness), lam) for i in rows]
        )
        return nll(p, labels[rows])

    best = min((0.02, 0.05, 0.1, 0.2, 0.4, 0.8), key=loss)
    return Vote(best, float(np.quantile(within, 0.99)))
