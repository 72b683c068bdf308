"""Twelve-megapixel JPEG photos to send: rendered, grainy like a phone's, each a little different from the others."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.data.toycar import render

WIDTH, HEIGHT = 4032, 3024  # a phone's 12 megapixels
_QUALITY = 90


def photos(scene: NDArray[np.uint8], n: int, *, width: int = WIDTH, height: int = HEIGHT) -> list[bytes]:
    """`n` JPEGs of uint8 [h, w, 3], enlarged and with sensor noise: about 3 MB each, which decodes like a real one."""
    rng = np.random.default_rng(0)
    enlarged = np.asarray(Image.fromarray(scene).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    made = []
    for _ in range(n):
        noise = rng.integers(-6, 7, (height, width, 1), dtype=np.int16)
        out = io.BytesIO()
        Image.fromarray(np.clip(enlarged + noise, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=_QUALITY)
        made.append(out.getvalue())
    return made


def scene() -> NDArray[np.uint8]:
    """uint8 [768, 768, 3]: the toy car from its side, with damages that the models can know."""
    return render(3, size=768, view="left", damages=["dent", "scratch", "dent", "scratch"], fakes=[]).pixels
