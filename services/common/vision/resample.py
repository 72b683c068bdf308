"""Every change of a picture's size, in training and in serving: antialiased bilinear, so that both see the same."""

from __future__ import annotations

from math import ceil, floor

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


def band(pixels: NDArray[np.uint8], height: int, width: int, rows: tuple[int, int]) -> NDArray[np.uint8]:
    """Those `rows` (first, and one behind the last) of `resize`'s result, but for rounding by one level here and there.

    Bands of one picture can be made in several threads: Pillow lets others run meanwhile.
    """
    tall, wide = pixels.shape[:2]
    step = tall / height
    blocks = max(1, int(wide / width / _REDUCING_GAP)), max(1, int(step / _REDUCING_GAP))
    top, bottom = rows[0] * step, rows[1] * step
    reach = step + blocks[1]  # of the filter, on the averaged blocks
    first = max(0, floor((top - reach) / blocks[1])) * blocks[1]
    last = min(tall, ceil((bottom + reach) / blocks[1]) * blocks[1])
    image = Image.fromarray(pixels[first:last])
    if blocks != (1, 1):
        image = image.reduce(blocks)
    window = (0, (top - first) / blocks[1], wide / blocks[0], (bottom - first) / blocks[1])
    return np.asarray(image.resize((width, rows[1] - rows[0]), Image.Resampling.BILINEAR, box=window))


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
