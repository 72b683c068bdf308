"""Merging LoRA experts: pure functions on tensors, layer by layer.

A layer of expert i is W0 + s_i B_i A_i with s_i = alpha_i / r_i. The paper prints two merges that differ: the update is
"the mean of the experts' updates" (A.5) and it is (mean B)(mean A) (eq. 5-6, 14-16).

    mean     sum_i w_i s_i B_i A_i, exactly, as one product of rank sum r_i (the factors side by side)
    product  (sum_i w_i B_i)(sum_i w_i A_i) s; has cross terms B_i A_j, and changes with each expert's gauge
             (B R^-1, R A): the same expert written differently gives another merge
    svd      the best approximation of `mean` with rank r (Eckart-Young)

`mean` is the default: it is exact, and it costs nothing once fused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Method = Literal["mean", "product", "svd"]
METHODS: tuple[Method, ...] = get_args(Method)


class MergeError(ValueError):
    """The experts do not fit together. The message names the layer and says what differs."""


@dataclass(frozen=True, eq=False)
class LowRank:
    """One layer's update `alpha / r * up @ down`: `down` is A [r, in], `up` is B [out, r]."""

    down: Tensor
    up: Tensor
    alpha: float

    def __post_init__(self) -> None:
        if self.down.ndim != 2 or self.up.ndim != 2 or self.down.shape[0] != self.up.shape[1] or not self.rank:
            raise MergeError(f"A {tuple(self.down.shape)} and B {tuple(self.up.shape)} are no factors of one rank")

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def delta(self) -> Tensor:
        """The update itself [out, in]."""
        return self.scale * (self.up @ self.down)


Expert = Mapping[str, LowRank]  # layer name -> its update


def merge(
    experts: Sequence[Expert], weights: Sequence[float] | None = None, *, method: Method = "mean", rank: int = 0
) -> dict[str, LowRank]:
    """The experts as one. `weights` sum to 1 (equal ones by default); an expert of weight 0 takes no part.

    `rank` is for `svd`: 0 means the largest rank of any expert. Raises MergeError.
    """
    shares = normalised(weights or [1.0] * len(experts), len(experts))
    taking = [(expert, share) for expert, share in zip(experts, shares, strict=True) if share]
    names = list(taking[0][0])
    for expert, _ in taking[1:]:
        if set(expert) != set(names):
            raise MergeError(f"The experts adapt different layers: {sorted(set(expert) ^ set(names))[0]}")
    merged = {}
    for name in names:
        parts, share = [expert[name] for expert, _ in taking], [share for _, share in taking]
        if len({(part.up.shape[0], part.down.shape[1]) for part in parts}) != 1:
            raise MergeError(f"{name}: the experts belong to base models of different widths")
        if method == "product":
            merged[name] = product_layer(parts, share, name)
        elif method == "svd":
            merged[name] = truncated(mean_layer(parts, share), rank or max(part.rank for part in parts))
        else:
            merged[name] = mean_layer(parts, share)
    return merged


def normalised(weights: Sequence[float], count: int) -> list[float]:
    """Weights divided by their sum. Raises MergeError where they are not `count` numbers >= 0 with a positive sum."""
    if len(weights) != count or not count:
        raise MergeError(f"{len(weights)} weights for {count} experts: give one for each")
    total = sum(weights)
    if not all(math.isfinite(w) and w >= 0 for w in weights) or total <= 0:
        raise MergeError("weights must be numbers of 0 or more, and one of them more than 0")
    return [w / total for w in weights]


def mean_layer(parts: Sequence[LowRank], weights: Sequence[float]) -> LowRank:
    """Exactly the weighted mean of the updates: A stacked, w_i s_i B_i side by side (A.5)."""
    down = torch.cat([part.down for part in parts], 0)
    up = torch.cat([part.up * (w * part.scale) for part, w in zip(parts, weights, strict=True)], 1)
    return LowRank(down, up, float(down.shape[0]))


def product_layer(parts: Sequence[LowRank], weights: Sequence[float], name: str = "layer") -> LowRank:
    """A* = sum w_i A_i, B* = sum w_i B_i, W* = W0 + s B* A* (paper: eq. 5-6). One rank and one alpha for all."""
    if len({(part.rank, part.alpha) for part in parts}) != 1:
        raise MergeError(f"{name}: `product` needs experts of one rank and one alpha; use `mean` or `svd`")
    down, up = torch.zeros_like(parts[0].down), torch.zeros_like(parts[0].up)
    for part, weight in zip(parts, weights, strict=True):
        down += weight * part.down
        up += weight * part.up
    return LowRank(down, up, parts[0].alpha)


def truncated(part: LowRank, rank: int) -> LowRank:
    """The nearest update of at most `rank` in the Frobenius norm, without ever building the [out, in] matrix.

    B A = Qb (Rb Ra^T) Qa^T, and the middle is as small as the rank.
    """
    q_up, r_up = torch.linalg.qr(part.up.double() * part.scale)
    q_down, r_down = torch.linalg.qr(part.down.double().T)
    u, s, vh = torch.linalg.svd(r_up @ r_down.T)
    kept = min(rank, len(s))
    root = s[:kept].sqrt()
    up, down = q_up @ (u[:, :kept] * root), (root[:, None] * vh[:kept]) @ q_down.T
    return LowRank(down.to(part.down.dtype), up.to(part.up.dtype), float(kept))


@dataclass(frozen=True)
class Difference:
    """How far a merge is from the mean of the updates, over all layers: ||merged - mean|| / ||mean||; cosine."""

    relative_error: float
    cosine: float
    rank: int


def compare(merged: Expert, experts: Sequence[Expert], weights: Sequence[float] | None = None) -> Difference:
    shares = normalised(weights or [1.0] * len(experts), len(experts))
    error = norm = dot = size = 0.0
    for name, part in merged.items():
        target = sum((w * e[name].delta().double() for e, w in zip(experts, shares, strict=True) if w), torch.zeros(()))
        made = part.delta().double()
        error += float((made - target).square().sum())
        norm += float(target.square().sum())
        size += float(made.square().sum())
        dot += float((made * target).sum())
    tiny = 1e-30
    return Difference(
        math.sqrt(error / max(norm, tiny)),
        dot / max(math.sqrt(norm * size), tiny),
        max(part.rank for part in merged.values()),
    )
