"""Is this photo a picture that we made? Pure functions on pixels.

Three steps. A hash and a coarse colour layout pick the few candidates worth a look; then each candidate's sketch is
laid over the photo at every place and at every scale (normalised cross-correlation); and only where the fine structures
agree at that place as well (`detail.py`) is it the same picture. That survives compression, resizing, cropping and
borders, and it is not a question of style: another picture of the same kind does not lie on top of this one.

The layout is computed here and not by the classifier: distances of a learned embedding mean something for one pack
only, and what was made must still be known when the pack is replaced.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Spectrum = NDArray[np.complexfloating]

SKETCH = 40  # pixels of a sketch's longer side: enough to tell pictures apart, few enough to try 34 scales
_LAYOUT = 6
_CANVAS = 144  # holds the largest photo beside the sketch without wrapping around
# The made picture's longer side over the photo's: 0.42 is a landscape picture on an upright phone, above 1 is a crop.
_SCALES = np.geomspace(0.42, 1.27, 34)
_COARSE, _WORTH = 3, 0.6  # every third scale first; its neighbours only where that one nearly agrees
_LEAST_OVERLAP = 0.6  # of the sketch
_BAR_SHADE, _BAR_SHARE = 12.0, 0.55  # JPEG noise, and how much of a bar a clock and icons leave
_LEAST_LEFT = 0.2  # of each side: bars that leave less are no bars


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """`layout` float32 [108] of unit length, `sketch` float32 [h, w] grey, `hash` 64 bits."""

    hash: int
    layout: Floats
    sketch: Floats


def fingerprint(pixels: Pixels) -> Fingerprint:
    return Fingerprint(perceptual_hash(pixels), layout(pixels), sketch(pixels))


def perceptual_hash(pixels: Pixels) -> int:
    """pHash: signs of the 8 x 8 lowest cosine coefficients of a 32 x 32 grey picture, against their median."""
    grey = np.asarray(Image.fromarray(pixels).convert("L").resize((32, 32), Image.Resampling.BOX), np.float64)
    k, n = np.arange(8)[:, None], np.arange(32)[None]
    basis = np.cos(np.pi / 32 * (n + 0.5) * k)
    low = (basis @ grey @ basis.T).ravel()
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def layout(pixels: Pixels) -> Floats:
    """Colours on a 6 x 6 grid, without their mean, as a unit vector [108]."""
    small = np.asarray(Image.fromarray(pixels).resize((_LAYOUT, _LAYOUT), Image.Resampling.BOX), np.float32)
    centred = small - small.mean((0, 1))
    return np.asarray(centred.ravel() / (np.linalg.norm(centred) + 1e-6), np.float32)


def sketch(pixels: Pixels, longer: float = SKETCH) -> Floats:
    """Grey, its longer side `longer` pixels."""
    height, width = pixels.shape[:2]
    factor = longer / max(height, width)
    size = max(2, round(width * factor)), max(2, round(height * factor))
    return np.asarray(Image.fromarray(pixels).convert("L").resize(size, Image.Resampling.BOX), np.float32)


def trimmed(pixels: Pixels, *, sides: bool = True) -> Pixels:
    """Without bars in the edge's own colour, as a screenshot has them; as it is where hardly anything would stay."""
    top, bottom = _inside(pixels)
    left, right = _inside(pixels[top:bottom].swapaxes(0, 1)) if sides else (0, pixels.shape[1])
    if bottom - top < _LEAST_LEFT * len(pixels) or right - left < _LEAST_LEFT * pixels.shape[1]:
        return pixels
    return pixels[top:bottom, left:right]


def _inside(lines: Pixels) -> tuple[int, int]:
    """The first line that is no bar, and one after the last. A bar may show a clock, and little else."""
    edge = np.median(lines[[0, -1]].reshape(-1, 3), axis=0)
    bar = (np.abs(lines - edge).max(-1) <= _BAR_SHADE).mean(1) >= _BAR_SHARE
    busy = np.flatnonzero(~bar)
    return (int(busy[0]), int(busy[-1]) + 1) if len(busy) else (0, len(lines))


@dataclass(frozen=True)
class Alignment:
    """Where a sketch lies in a photo best: the agreement in [-1, 1], and the sketch's box in the photo, normalised."""

    agreement: float
    box: tuple[float, float, float, float]


class Laid:
    """A photo prepared for laying sketches over it: its spectra at every scale are computed once for all candidates."""

    def __init__(self, pixels: Pixels) -> None:
        self._levels = []
        for scale in _SCALES:
            photo = np.asarray(sketch(pixels, SKETCH / scale) / 255 - 0.5, np.float32)
            if max(photo.shape) <= _CANVAS - SKETCH:
                self._levels.append((photo.shape, [_spectrum(x) for x in (photo, photo**2, np.ones_like(photo))]))

    def align(self, made: Floats) -> Alignment:
        """Lay `made` over the photo at every shift and scale (masked normalised cross-correlation, Padfield 2012)."""
        made = np.asarray(made / 255 - 0.5, np.float32)
        one, square, mask = (np.conj(_spectrum(x)) for x in (made, made**2, np.ones_like(made)))
        spectra = (one, square, mask)
        first = [(self._at(level, made, spectra), level) for level in range(0, len(self._levels), _COARSE)]
        best, level = max(first, key=lambda pair: pair[0].agreement)
        if best.agreement >= _WORTH:
            near = range(max(0, level - _COARSE + 1), min(len(self._levels), level + _COARSE))
            best = max((self._at(each, made, spectra) for each in near), key=lambda found: found.agreement)
        return best

    def _at(self, level: int, made: Floats, spectra: tuple[Spectrum, Spectrum, Spectrum]) -> Alignment:
        """The best shift at one scale."""
        shape, (photo, photo_square, photo_mask) = self._levels[level]
        one, square, mask = spectra
        overlap = np.maximum(_back(photo_mask * mask), 1e-3)
        mean_photo, mean_made = _back(photo * mask) / overlap, _back(photo_mask * one) / overlap
        cross = _back(photo * one) / overlap - mean_photo * mean_made
        var_photo = _back(photo_square * mask) / overlap - mean_photo**2
        var_made = _back(photo_mask * square) / overlap - mean_made**2
        # Flat regions agree with anything flat: without some contrast there is no agreement.
        agreement = cross / np.sqrt(np.maximum(var_photo, 1e-3) * np.maximum(var_made, 1e-3))
        agreement[overlap < _LEAST_OVERLAP * made.size] = -1
        at = int(agreement.argmax())
        y, x = (int(v) if v < _CANVAS - SKETCH else int(v) - _CANVAS for v in divmod(at, _CANVAS))
        height, width = shape
        box = (x / width, y / height, (x + made.shape[1]) / width, (y + made.shape[0]) / height)
        return Alignment(float(agreement.flat[at]), box)


def _spectrum(x: Floats) -> Spectrum:
    return np.asarray(np.fft.rfft2(x, (_CANVAS, _CANVAS)))


def _back(x: Spectrum) -> Floats:
    return np.asarray(np.fft.irfft2(x, (_CANVAS, _CANVAS)), np.float32)
