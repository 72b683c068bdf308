"""Twelve-megapixel JPEG photos to send: rendered, grainy like a phone's, each a little different from the others."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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
    """uint8 [480, 640, 3]: a grey car body on asphalt, with a dark dent and a light scratch."""
    picture: NDArray[np.uint8] = np.full((480, 640, 3), 70, np.uint8)
    picture[140:400, 60:580] = (150, 152, 156)
    rows, columns = np.mgrid[0:480, 0:640]
    dent = np.hypot((rows - 270) / 40, (columns - 250) / 60)
    shade = np.clip(1 - dent, 0, 1)[..., None]
    picture = (picture * (1 - 0.6 * shade) + np.array((200, 40, 40)) * 0.6 * shade).astype(np.uint8)
    picture[np.abs(rows - 0.3 * columns - 180) < 3] = (235, 235, 235)
    return picture
