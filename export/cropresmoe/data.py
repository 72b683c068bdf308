"""Damage crops in memory: cut once with room around the box, then jittered, turned and coloured on the training device.

A stored crop shows `ROOM` of the box's longer side on every side of it, at `SIDE` pixels; what the classifier sees
(`context` around the box, at its own size) is sampled from that, so box jitter costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from export.albert.data import colour
from services.common.vision.crops import cut_crops

ROOM = 0.6  # of the box's longer side, on each side
SIDE = 384  # at most


@dataclass
class Crops:
    """n crops of one split. `image` groups crops of one photo; `size` is 0 small, 1 medium, 2 large."""

    pixels: NDArray[np.uint8]  # [n, side, side, 3], with ROOM around each box
    labels: NDArray[np.int64]  # [n], index into the classes
    image: NDArray[np.int64]  # [n]
    size: NDArray[np.int64]  # [n]
    served: NDArray[np.uint8]  # [n, S, S, 3]: exactly as serving cuts them

    def joined(self, other: Crops) -> Crops:
        """Both, the other's photos counted on from these."""
        rows = {k: np.concatenate([v, vars(other)[k]]) for k, v in vars(self).items()}
        rows["image"][len(self.image) :] += self.image.max(initial=-1) + 1
        return Crops(**rows)


def wide_crops(
    pixels: NDArray[np.uint8],
    boxes: NDArray[np.float64],
    *,
    side: int = SIDE,
    resize: Literal["pad", "stretch"] = "pad",
) -> NDArray[np.uint8]:
    """[n, side, side, 3] around normalised boxes [n, 4]."""
    return cut_crops(pixels, boxes, size=side, resize=resize, context=ROOM)


def wide_side(size: int, context: float) -> int:
    """The side at which a stored crop holds as many pixels as the classifier's `size` shows of it."""
    return min(SIDE, ceil(size * (1 + 2 * ROOM) / (1 + 2 * context)))


def augment(crops: Tensor, size: int, context: float, rng: torch.Generator) -> Tensor:
    """uint8 [B, side, side, 3] -> uint8 [B, size, size, 3]: box jitter, aspect jitter, turn, flip, colour, erasing.

    Box jitter: scale 0.75 to 1.35 and a shift of up to 15 % of the box keep the IoU with the true box mostly in
    0.6 to 1, which is what a segmenter's boxes look like.
    """
    b = crops.shape[0]

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(b, generator=rng) * (high - low) + low

    view = (1 + 2 * context) / (1 + 2 * ROOM)  # share of the stored crop that the classifier sees
    scale = view * torch.exp(uniform(log(0.75), log(1.35)))
    aspect = torch.exp(uniform(log(0.75), log(1 / 0.75)) / 2)
    angle = uniform(-0.26, 0.26)
    mirror = torch.where(torch.rand(b, generator=rng) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle), torch.sin(angle)
    shift = 0.15 * 2 / (1 + 2 * ROOM)
    sx, sy = scale * aspect, scale / aspect
    theta = torch.stack(
        [
            torch.stack([mirror * sx * cos, -sy * sin, uniform(-shift, shift)], 1),
            torch.stack([mirror * sx * sin, sy * cos, uniform(-shift, shift)], 1),
        ],
        1,
    ).to(crops.device)
    grid = F.affine_grid(theta, [b, 3, size, size], align_corners=False)
    x = crops.permute(0, 3, 1, 2).float()
    x = F.grid_sample(x - 118, grid, mode="bilinear", align_corners=False) + 118
    x = erase(colour(x, rng), rng)
    return x.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def erase(x: Tensor, rng: torch.Generator, share: float = 0.25) -> Tensor:
    """Random erasing of one rectangle in a `share` of the crops [B, 3, S, S]."""
    b, s = x.shape[0], x.shape[-1]
    r = torch.rand(b, 5, generator=rng)
    w, h = (0.1 + 0.25 * r[:, 0]) * s, (0.1 + 0.25 * r[:, 1]) * s
    x0, y0 = r[:, 2] * (s - w), r[:, 3] * (s - h)
    line = torch.arange(s)
    inside = ((line >= x0[:, None]) & (line < (x0 + w)[:, None]))[:, None, :] & (
        (line >= y0[:, None]) & (line < (y0 + h)[:, None])
    )[:, :, None]
    inside &= (r[:, 4] < share)[:, None, None]
    return torch.where(inside[:, None].to(x.device), x.mean((2, 3), keepdim=True), x)
