"""Arithmetic on a graph's logits: probabilities, and maps on a finer grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def sigmoid(x: Floats) -> Floats:
    """Logistic function that does not overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)), np.float32)


def softmax(x: Floats, axis: int = -1) -> Floats:
    e = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(e / e.sum(axis, keepdims=True), np.float32)


def double(maps: Floats) -> Floats:
    """Bilinear upsampling by two of [n, h, w] -> [n, 2h, 2w] (pixel centres, edges repeated)."""
    n, height, width = maps.shape
    tall, fine = np.empty((2 * height, width), np.float32), np.empty((n, 2 * height, 2 * width), np.float32)
    for coarse, out in zip(maps, fine, strict=True):  # one map fits into the processor's cache, all of them do not
        _double_rows(coarse, tall)
        _double_rows(tall.T, out.T)
    return fine


def _double_rows(rows: Floats, out: Floats) -> None:
    near, far = 0.75 * rows, 0.25 * rows
    out[0], out[-1] = near[0] + far[0], near[-1] + far[-1]
    np.add(near[1:], far[:-1], out=out[2::2])
    np.add(near[:-1], far[1:], out=out[1:-1:2])
