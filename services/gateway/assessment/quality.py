"""Whether a photo is worth sending: size, light, glare and sharpness, from a small decode and in milliseconds.

Signals, not verdicts on the claim: a photo that is dark in a garage may still show the damage. `retake` therefore means
that another photo is likely to be judged better, and the text says how to take it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from services.common.vision.photo import open_photo
from services.gateway.schemas import Reason

_SIDE = 512  # pixels of the longer side that is looked at: blur that matters at the models' sizes shows here too
_LEAST_SIDE = 320  # pixels of the shorter side, below which a scratch is a pixel wide
_DARK, _BRIGHT = 45.0, 225.0  # mean luma of 255
_BURNT, _BURNT_SHARE = 250, 0.25  # luma that holds no detail any more, and how much of a photo may have it
_SHARP = 50.0  # variance of the Laplacian (Pech-Pacheco et al., 2000) of luma at `_SIDE`
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601

SENTENCES = {
    "too_small": "The photo is small. Send the camera's original, not a thumbnail or a screenshot.",
    "too_dark": "The photo is dark. Take it in daylight or with the flash.",
    "too_bright": "The photo is overexposed. Take it with the sun behind you.",
    "glare": "Large parts of the photo are burnt out. Step aside until the reflection is gone.",
    "blurred": "The photo is blurred. Hold still, wipe the lens and tap the damage to focus.",
}


@dataclass(frozen=True, slots=True)
class Quality:
    """`measures`: luma (mean, 0 to 255), burnt (share of the photo), sharpness (variance of the Laplacian)."""

    width: int
    height: int
    sha256: str
    issues: list[Reason]
    measures: dict[str, float]

    @property
    def verdict(self) -> Literal["ok", "retake"]:
        return "retake" if self.issues else "ok"


def check(data: bytes, *, max_pixels: int) -> Quality:
    """Raises PhotoError for a photo that cannot be used at all."""
    photo = open_photo(data, max_side=_SIDE, max_pixels=max_pixels)
    luma = photo.pixels @ _LUMA
    light, burnt, sharpness = float(luma.mean()), float((luma >= _BURNT).mean()), _sharpness(luma)
    found = {
        "too_small": min(photo.width, photo.height) < _LEAST_SIDE,
        "too_dark": light < _DARK,
        "too_bright": light > _BRIGHT,
        "glare": burnt > _BURNT_SHARE and light <= _BRIGHT,
        "blurred": sharpness < _SHARP and light >= _DARK,  # the dark hides edges, and is the better advice
    }
    issues = [Reason(code=code, text=SENTENCES[code]) for code, is_so in found.items() if is_so]
    measures = {"luma": round(light, 1), "burnt": round(burnt, 4), "sharpness": round(sharpness, 1)}
    return Quality(photo.width, photo.height, photo.sha256, issues, measures)


def _sharpness(luma: NDArray[np.float32]) -> float:
    """Variance of the Laplacian; 0 where the photo is too small to have one."""
    if min(luma.shape) < 3:
        return 0.0
    inner = luma[1:-1, 1:-1]
    return float((luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner).var())
