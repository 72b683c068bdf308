"""Painting into a photo: the region around the mask is what the model sees, and only the mask's pixels change."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from services.common.serving.errors import Unprocessable
from services.common.vision.decoders import sniff

_CONTEXT = 0.5  # of the mask's longer side, on each side: the model has to see what surrounds the damage
_LEAST = 4  # pixels of a mask; fewer cannot show a damage


@dataclass(frozen=True, eq=False)
class Canvas:
    """The photo [h, w, 3], its exact mask [h, w], and the square-ish window (x0, y0, x1, y1) that is redrawn."""

    photo: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    window: tuple[int, int, int, int]

    def patch(self, width: int, height: int) -> tuple[Image.Image, Image.Image]:
        """The window and its mask, as the model sees them."""
        photo = Image.fromarray(self.photo).crop(self.window).resize((width, height), Image.Resampling.LANCZOS)
        mask = Image.fromarray(self.mask).convert("L").crop(self.window)
        return photo, mask.resize((width, height), Image.Resampling.BILINEAR)

    def paste(self, drawn: Image.Image) -> NDArray[np.uint8]:
        """The photo with the drawn window under the mask. Outside of the mask every pixel is the photo's own."""
        x0, y0, x1, y1 = self.window
        back = np.asarray(drawn.convert("RGB").resize((x1 - x0, y1 - y0), Image.Resampling.LANCZOS), np.float32)
        # The edge fades inwards: outwards it would change pixels that the mask calls undamaged.
        hard = Image.fromarray(self.mask).convert("L")
        soft = np.asarray(hard.filter(ImageFilter.GaussianBlur(1.5)), np.float32) / 255
        alpha = np.where(self.mask, np.clip(2 * soft - 0.5, 0.25, 1), 0)[y0:y1, x0:x1, None]
        made = self.photo.copy()
        inside = made[y0:y1, x0:x1]
        made[y0:y1, x0:x1] = np.round(alpha * back + (1 - alpha) * inside).astype(np.uint8)
        return made


def read_mask(data: bytes, height: int, width: int) -> NDArray[np.bool_]:
    """A PNG mask, white where to paint. Raises Unprocessable for another format or size and for an empty one."""
    if sniff(data) != "png":
        raise Unprocessable("The mask is no PNG. Send a black and white PNG of the photo's size.")
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as opened:
            if opened.size != (width, height):
                raise Unprocessable(
                    f"The mask is {opened.width} x {opened.height} pixels, the upright photo {width} x {height}. "
                    "Send a mask of the photo's size."
                )
            mask = np.asarray(opened.convert("L")) > 127
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Unprocessable("The mask is damaged or cut off. Send it again.") from error
    if mask.sum() < _LEAST:
        raise Unprocessable("The mask is black: nothing would be painted. White marks where the damage goes.")
    return mask


def canvas(photo: NDArray[np.uint8], mask: NDArray[np.bool_], width: int, height: int) -> Canvas:
    """The window around the mask, of the aspect `width` : `height`, with context, inside the photo."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    reach = max(y1 - y0, x1 - x0) * (1 + 2 * _CONTEXT)
    tall, wide = max(reach, reach * height / width), max(reach, reach * width / height)
    full_height, full_width = photo.shape[:2]
    tall, wide = min(round(tall), full_height), min(round(wide), full_width)
    top = int(np.clip((y0 + y1 - tall) // 2, 0, full_height - tall))
    left = int(np.clip((x0 + x1 - wide) // 2, 0, full_width - wide))
    return Canvas(photo, mask, (left, top, left + int(wide), top + int(tall)))
