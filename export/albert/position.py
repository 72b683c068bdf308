"""Learned positions for photos of another size."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resized(position: Tensor, side: int) -> Tensor:
    """Learned positions [1, T, d] for a grid of side x side tokens, interpolated bicubically."""
    before = int(position.shape[1] ** 0.5)
    grid = position.reshape(1, before, before, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, (side, side), mode="bicubic", align_corners=False)
    return grid.permute(0, 2, 3, 1).reshape(1, side * side, -1)
