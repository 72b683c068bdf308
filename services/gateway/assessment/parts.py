"""Which part a damage is on, and which lookalike lies over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.common.serving.schemas import Box, Scored
from services.common.vision.masks import overlap
from services.gateway.schemas import Side

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


def placed(on: Sequence[Scored], *, least_share: float) -> Placed:
    """The segmenter's likeliest parts of one damage; those with less than `least_share` of it are no placement."""
    return Placed(*[(part.label, min(part.score, 1.0)) for part in on if part.score >= least_share][:2])


def nearest_side(box: Box, sided: Sequence[tuple[Box, Side]]) -> Side | None:
    """The side of a thing whose name does not say it ("wheel"): that of the nearest part whose name does.

    `sided`: boxes and sides of the photo's left and right parts. The nearest counts, not the majority: a photo of a
    corner shows parts of both sides.
    """
    if not sided:
        return None
    x, y = _centre(box)
    return min(sided, key=lambda part: (_centre(part[0])[0] - x) ** 2 + (_centre(part[0])[1] - y) ** 2)[1]


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _ranked(shares: NDArray[np.float32], labels: Sequence[str], least_share: float) -> Placed:
    best: dict[str, float] = {}
    for index in np.argsort(-shares, kind="stable"):
        share = min(float(shares[index]), 1.0)
        if share >= least_share:
            best.setdefault(labels[index], share)
    ranked = list(best.items())
    return Placed(*ranked[:2])
