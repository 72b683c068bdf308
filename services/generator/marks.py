"""The visible mark: a plate in the lower right corner that says what the picture is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

TEXT = "SYNTHETIC - NOT EVIDENCE"


def marked(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy of the picture [h, w, 3] with the mark, a third of the width wide and readable on any ground."""
    image = Image.fromarray(pixels)
    font = ImageFont.load_default(size=max(8.0, image.width / 3 / (0.62 * len(TEXT))))
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = draw.textbbox((0, 0), TEXT, font=font)
    pad = max(2, int((bottom - top) * 0.4))
    x, y = image.width - (right - left) - 2 * pad, image.height - (bottom - top) - 2 * pad
    draw.rectangle((x, y, image.width, image.height), fill=(0, 0, 0))
    draw.text((x + pad - left, y + pad - top), TEXT, fill=(255, 255, 255), font=font)
    return np.asarray(image, np.uint8)
