"""How large a damage is: the classes small, medium and large by which CropResMoE reports its precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

SizeClass = Literal["small", "medium", "large"]

SMALL, MEDIUM = 128**2, 256**2  # CropResMoE: box areas in pixels
MEAN_PHOTO = 684_000  # pixels of CarDD's mean photo, on which these limits were drawn


def size_class(box: Sequence[float]) -> SizeClass:
    """Size class of a normalised xyxy box, the same at any resolution.

    paper: pixels of the photo as it came; here: of a photo scaled to CarDD's mean; because a phone's 12 megapixels
    would make every scratch large.
    """
    x0, y0, x1, y1 = box
    return size_class_pixels((x1 - x0) * (y1 - y0) * MEAN_PHOTO)


def size_class_pixels(area: float) -> SizeClass:
    """Size class of a box's area in pixels, as in the paper."""
    if area < SMALL:
        return "small"
    return "medium" if area < MEDIUM else "large"
