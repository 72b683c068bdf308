"""A patch: what a damage or a fake changes on the toy car's surface, as small textures in metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from export.data.toycar_camera import Spots
from export.data.toycar_geometry import SURFACES, Array

Bools = NDArray[np.bool_]
Point = tuple[float, float]


@dataclass
class Patch:
    """Textures [n, n] of `size` metres around `centre` on one surface, or on all of a part's surfaces.

    alpha and colour cover the paint, height (metres) bends it, gloss multiplies its shine. `mask` is what a careful
    labeller would outline, `strict` only what really changed; `strict` is never larger.
    """

    kind: str  # damage | fake
    label: str
    part: str
    parts: NDArray[np.uint8]  # ids that it may touch
    surface: str  # empty: everywhere on `parts`
    centre: Point
    size: float
    alpha: Array
    colour: Array  # [n, n, 3]
    height: Array
    gloss: Array
    mask: Bools
    strict: Bools

    def where(self, spots: Spots, ids: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
        """Which spots it touches, the texel each of them shows, and their texture coordinates [k, 2] in texels."""
        n = len(self.alpha)
        hit = np.isin(ids, self.parts)
        if self.surface:
            half = self.size / 2
            hit &= spots.surface == SURFACES.index(self.surface)
            hit &= (np.abs(spots.u - self.centre[0]) < half) & (np.abs(spots.v - self.centre[1]) < half)
        k = np.flatnonzero(hit)
        at = np.stack([spots.v[k] - self.centre[1], spots.u[k] - self.centre[0]], -1) * (n / self.size) + n / 2
        i, j = (at.astype(np.int64) % n).T
        return k, i * n + j, np.clip(at - 0.5, 0, n - 1.001)


class Canvas:
    """A square of surface in metres, (0, 0) in its middle, on which a patch is painted."""

    def __init__(self, rng: np.random.Generator, size: float, texel: float) -> None:
        self.rng, self.size = rng, size
        self.n = int(np.clip(size / texel, 16, 400))
        axis = (np.arange(self.n, dtype=np.float32) + 0.5) / self.n * size - size / 2
        self.v, self.u = np.meshgrid(axis, axis, indexing="ij")

    def blank(self) -> Array:
        return np.zeros((self.n, self.n), np.float32)

    def noise(self, wavelength: float) -> Array:
        """Smooth noise in about 0..1 with features of `wavelength` metres."""
        cells = int(np.clip(round(self.size / wavelength), 2, self.n)) + 1
        coarse = Image.fromarray(self.rng.random((cells, cells), np.float32))
        return np.asarray(coarse.resize((self.n, self.n), Image.Resampling.BICUBIC), np.float32)

    def rough(self, wavelength: float) -> Array:
        """Three octaves of noise."""
        total = self.noise(wavelength) + self.noise(wavelength / 2) / 2 + self.noise(wavelength / 4) / 4
        return np.asarray(total / 1.75, np.float32)

    def lines(self, paths: list[list[Point]], width: float) -> Array:
        """Polylines of `width` metres -> coverage in 0..1."""
        image = Image.new("L", (self.n, self.n))
        pen = ImageDraw.Draw(image)
        texels = max(1, round(width / self.size * self.n))
        for path in paths:
            pen.line([self._texel(p) for p in path], fill=255, width=texels, joint="curve")
        return _shares(image)

    def polygon(self, points: list[Point]) -> Array:
        image = Image.new("L", (self.n, self.n))
        ImageDraw.Draw(image).polygon([self._texel(p) for p in points], fill=255)
        return _shares(image)

    def walk(self, start: Point, angle: float, length: float, steps: int, wobble: float) -> list[Point]:
        """A random walk that keeps roughly to its direction."""
        angles = angle + np.cumsum(self.rng.normal(0, wobble, steps))
        x = start[0] + np.cumsum(np.cos(angles)) * length / steps
        y = start[1] + np.cumsum(np.sin(angles)) * length / steps
        return [start, *zip(x.tolist(), y.tolist(), strict=True)]

    def blur(self, a: Array, radius: float) -> Array:
        """Gaussian blur by `radius` metres."""
        texels = radius / self.size * self.n
        byte = Image.fromarray((np.clip(a, 0, 1) * 255).astype(np.uint8))
        return _shares(byte.filter(ImageFilter.GaussianBlur(texels)))

    def _texel(self, p: Point) -> Point:
        return ((p[0] / self.size + 0.5) * self.n, (p[1] / self.size + 0.5) * self.n)


def _shares(image: Image.Image) -> Array:
    """Bytes 0..255 as 0..1."""
    return np.asarray(np.asarray(image, np.float32) / 255, np.float32)


def bilinear(texture: Array, at: Array) -> Array:
    """Sample [n, n] or [n, n, c] at texel coordinates [k, 2]."""
    i, j = at.astype(np.int64).T
    fi, fj = (at - np.stack([i, j], -1)).T
    if texture.ndim == 3:
        fi, fj = fi[:, None], fj[:, None]
    top = texture[i, j] * (1 - fj) + texture[i, j + 1] * fj
    low = texture[i + 1, j] * (1 - fj) + texture[i + 1, j + 1] * fj
    return np.asarray(top * (1 - fi) + low * fi, np.float32)
