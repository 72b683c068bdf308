"""Which part a damage is on: by how much of its mask lies on each part's mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.common.vision.masks import overlap

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Placed:
    """The part a damage is on and the next best other part, each with the share of the damage on it."""

    best: tuple[str, float] | None = None
    second: tuple[str, float] | None = None


def place(damages: Bools, parts: Bools, labels: Sequence[str], *, least_share: float) -> list[Placed]:
    """Masks bool [n, h, w] and [m, h, w] on one grid, the parts' labels [m] -> n placements.

    Pieces of one name (two visible wheels) are judged apart; shares below `least_share` are no placement.
    """
    if len(damages) == 0 or len(parts) == 0:
        return [Placed()] * len(damages)
    area = np.maximum(damages.reshape(len(damages), -1).sum(1), 1)
    shares = overlap(damages, parts) / area[:, None]
    return [_ranked(row, labels, least_share) for row in shares]


def _ranked(shares: NDArray[np.float32], labels: Sequence[str], least_share: float) -> Placed:
    best: dict[str, float] = {}
    for index in np.argsort(-shares, kind="stable"):
        share = min(float(shares[index]), 1.0)
        if share >= least_share:
            best.setdefault(labels[index], share)
    ranked = list(best.items())
    return Placed(*ranked[:2])
