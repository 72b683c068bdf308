"""The second look: where a sketch lies on a photo, do the fine structures agree as well?

Coarse shapes can agree by chance: a dark car on a bright ground lies on another dark car on a bright ground. Edges and
texture do not. Both pictures are compared without their low frequencies, a few pixels and percents around where the
sketch lies best.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from services.gateway.generated.likeness import Floats, Pixels

DETAIL = 96  # pixels of the longer side
_BLUR = 2.5
_SHIFTS = range(-4, 5)
_ZOOMS = (0.96, 0.98, 1.0, 1.02, 1.04)  # the sketch's scale is right to a percent or two
_LEAST_VARIANCE = 2.0  # of grey values; flatter than that is rounding and JPEG, not structure
_LEAST_OVERLAP = 0.5


def detail(pixels: Pixels) -> NDArray[np.uint8]:
    """Grey, its longer side 96 pixels, uint8 [h, w]: what is kept of a picture for the second look."""
    factor = DETAIL / max(pixels.shape[:2])
    size = max(8, round(pixels.shape[1] * factor)), max(8, round(pixels.shape[0] * factor))
    return np.asarray(Image.fromarray(pixels).convert("L").resize(size, Image.Resampling.BOX), np.uint8)


def agreement(photo: Pixels, box: tuple[float, float, float, float], made: NDArray[np.uint8]) -> float:
    """Best correlation of the fine structures of `made` and of the photo under `box`, in [-1, 1]."""
    height, width = photo.shape[:2]
    tall, wide = made.shape
    fine = _fine(Image.fromarray(made))
    grey = Image.fromarray(photo).convert("L")
    x0, y0, x1, y1 = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    best = -1.0
    for zoom in _ZOOMS:
        # Where the made picture would lie, a little larger or smaller around the same centre.
        half_x, half_y = (x1 - x0) / 2 * zoom, (y1 - y0) / 2 * zoom
        left, top = (x0 + x1) / 2 - half_x, (y0 + y1) / 2 - half_y
        scale_x, scale_y = 2 * half_x / wide, 2 * half_y / tall  # photo pixels per detail pixel
        # The part of the detail's grid that lies inside the photo.
        first_x, first_y = max(0, int(np.ceil(-left / scale_x))), max(0, int(np.ceil(-top / scale_y)))
        last_x, last_y = min(wide, int((width - left) / scale_x)), min(tall, int((height - top) / scale_y))
        if (last_x - first_x) * (last_y - first_y) < _LEAST_OVERLAP * made.size:
            continue
        cut = (
            left + first_x * scale_x,
            top + first_y * scale_y,
            left + last_x * scale_x,
            top + last_y * scale_y,
        )
        cut = (max(0.0, cut[0]), max(0.0, cut[1]), min(float(width), cut[2]), min(float(height), cut[3]))
        there = grey.resize((last_x - first_x, last_y - first_y), Image.Resampling.BOX, box=cut)
        best = max(best, _best_shift(_fine(there), fine, first_x, first_y))
    return best


def _fine(image: Image.Image) -> Floats:
    low = np.asarray(image.filter(ImageFilter.GaussianBlur(_BLUR)), np.float32)
    return np.asarray(np.asarray(image, np.float32) - low, np.float32)


def _best_shift(photo: Floats, made: Floats, x: int, y: int) -> float:
    """`photo` belongs at (x, y) of `made`, give or take a few pixels."""
    tall, wide = photo.shape
    best = -1.0
    for dy in _SHIFTS:
        for dx in _SHIFTS:
            top, left = max(0, y + dy), max(0, x + dx)
            bottom, right = min(made.shape[0], y + dy + tall), min(made.shape[1], x + dx + wide)
            if (bottom - top) * (right - left) < _LEAST_OVERLAP * made.size:
                continue
            a = made[top:bottom, left:right]
            b = photo[top - y - dy : bottom - y - dy, left - x - dx : right - x - dx]
            a, b = a - a.mean(), b - b.mean()
            spread = max(float((a * a).mean()), _LEAST_VARIANCE) * max(float((b * b).mean()), _LEAST_VARIANCE)
            best = max(best, float((a * b).mean()) / float(np.sqrt(spread)))
    return best
