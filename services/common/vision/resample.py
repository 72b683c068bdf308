"""Every change of a picture's size, in training and in serving: antialiased bilinear, so that both see the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Where a picture shrinks more than twice this factor, whole blocks of pixels are averaged first: several times
# faster, and below what eight bits can show.
_REDUCING_GAP = 2.0


def resize(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """uint8 [h, w, 3] -> uint8 [height, width, 3], stretched; the same array where nothing changes."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.array(_resample(Image.fromarray(pixels), (width, height)))


def downscale(pixels: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    """uint8 [h, w, 3] -> the same aspect with its longer side <= max_side; the same array where it fits already."""
    height, width = pixels.shape[:2]
    if max(height, width) <= max_side:
        return pixels
    return np.array(shrink(Image.fromarray(pixels), max_side))


def shrink(image: Image.Image, max_side: int) -> Image.Image:
    """`downscale` for a Pillow image of any mode."""
    size = fitted(image.size, max_side)
    return image if size == image.size else _resample(image, size)


def fitted(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """(width, height) with the longer side <= max_side and the aspect kept; no side falls below one pixel."""
    share = min(1.0, max_side / max(size))
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def cut(image: Image.Image, window: tuple[float, float, float, float], size: int) -> NDArray[np.uint8]:
    """The window (x0, y0, x1, y1) in pixels, fractions allowed, of an RGB image, stretched to uint8 [size, size, 3]."""
    return np.asarray(_resample(image, (size, size), window))


def _resample(
    image: Image.Image, size: tuple[int, int], window: tuple[float, float, float, float] | None = None
) -> Image.Image:
    return image.resize(size, Image.Resampling.BILINEAR, box=window, reducing_gap=_REDUCING_GAP)
