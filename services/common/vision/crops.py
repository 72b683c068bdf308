"""Crops: the square pictures that the classifier sees, cut in training and in serving by the same function."""

from __future__ import annotations

from math import ceil, floor
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from services.common.vision.resample import cut

# ImageNet's mean colour: what lies outside the photo is zero after normalisation.
_FILL = (124, 116, 104)
_SLACK = 1e-4  # boxes that went through float32 may end this far outside; it is less than a pixel
_MIN_SIDE = 1.0  # pixels


def cut_crops(
    pixels: NDArray[np.uint8], boxes: ArrayLike, *, size: int, resize: Literal["pad", "stretch"], context: float = 0.0
) -> NDArray[np.uint8]:
    """uint8 [h, w, 3] and normalised xyxy boxes [n, 4] -> uint8 [n, size, size, 3].

    "pad": a square around the box's centre, its side the box's longer side in pixels times (1 + 2 * context); outside
    of the photo lies the mean colour. "stretch": the box itself, aspect lost (CropResMoE), context added to each side.
    Raises ValueError for boxes that are empty, reversed, not finite or outside of the photo.
    """
    if resize not in ("pad", "stretch"):
        raise ValueError(f"resize is 'pad' or 'stretch', not {resize!r}")
    if not 0 <= context <= 10:
        raise ValueError(f"context is a share of the box between 0 and 10, not {context}")
    height, width = pixels.shape[:2]
    windows = []
    for x0, y0, x1, y1 in _checked(boxes) * (width, height, width, height):
        box_width, box_height = max(x1 - x0, _MIN_SIDE), max(y1 - y0, _MIN_SIDE)
        if resize == "pad":
            box_width = box_height = max(box_width, box_height)
        half_width, half_height = box_width * (0.5 + context), box_height * (0.5 + context)
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        windows.append((x - half_width, y - half_height, x + half_width, y + half_height))
    crops = np.empty((len(windows), size, size, 3), np.uint8)
    if windows:
        # Pillow copies what it is given: only the rows that some crop shows, and those once for all of them.
        top, bottom = max(0, floor(min(w[1] for w in windows))), ceil(max(w[3] for w in windows))
        shown = Image.fromarray(pixels[top:bottom])
        for crop, window in zip(crops, windows, strict=True):
            crop[:] = _window(shown, top, window, size)
    return crops


def _checked(boxes: ArrayLike) -> NDArray[np.float64]:
    """Boxes as float64 [n, 4] within [0, 1]."""
    array = np.asarray(boxes, np.float64).reshape(-1, 4)
    inside = np.all((array >= -_SLACK) & (array <= 1 + _SLACK), axis=1)  # false for NaN as well
    ordered = np.all(array[:, 2:] > array[:, :2], axis=1)
    wrong = np.flatnonzero(~(inside & ordered))
    if len(wrong):
        first = int(wrong[0])
        fault = "empty or reversed" if inside[first] else "outside of the photo"
        raise ValueError(f"box {first} is {fault}: {array[first].tolist()} (want x0 < x1 and y0 < y1 within 0 to 1)")
    return array.clip(0, 1)


def _window(shown: Image.Image, first: int, window: tuple[float, float, float, float], size: int) -> NDArray[np.uint8]:
    """A window in pixels, which may reach over the photo's border, as uint8 [size, size, 3].

    `shown` is the photo from its row `first` on.
    """
    x0, y0, x1, y1 = window
    left, top = floor(x0), floor(y0)
    canvas = Image.new("RGB", (ceil(x1) - left, ceil(y1) - top), _FILL)
    canvas.paste(shown, (-left, first - top))
    return cut(canvas, (x0 - left, y0 - top, x1 - left, y1 - top), size)
