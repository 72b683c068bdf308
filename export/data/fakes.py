"""Fake damages on real photos: mud, drips, stains, shadows, rust-coloured dirt, reflections and design creases.

No public photos of these are labelled, so they are rendered onto photos of real cars, inside a part or the vehicle,
with exact masks. They are always called `rendered`. `fakes_other.py` builds the same seven in another way: a model
that has learned the renderer instead of the thing fails there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Array = NDArray[np.float32]
Bools = NDArray[np.bool_]

_VISIBLE = 0.06  # coverage below this is neither drawn nor part of the mask


@dataclass(frozen=True)
class Cutting:
    """The surroundings of a region: photo [h, w, 3] in 0..1, the region [h, w], and a spot and a length in pixels.

    `reach` is the side of a square as large as the region: everything is drawn in proportion to it.
    """

    rng: np.random.Generator
    photo: Array
    region: Bools
    x: Array  # [h, w], pixels from the spot
    y: Array
    reach: float

    def noise(self, wavelength: float) -> Array:
        """Smooth noise in about 0..1 with features of `wavelength` pixels."""
        h, w = self.region.shape
        cells = (int(h / max(wavelength, 1)) + 2, int(w / max(wavelength, 1)) + 2)
        coarse = Image.fromarray(self.rng.random(cells, np.float32))
        return np.asarray(coarse.resize((w, h), Image.Resampling.BICUBIC), np.float32)

    def rough(self, wavelength: float) -> Array:
        """Three octaves of noise."""
        total = self.noise(wavelength) + self.noise(wavelength / 2) / 2 + self.noise(wavelength / 4) / 4
        return np.asarray(total / 1.75, np.float32)

    def light(self) -> Array:
        """How bright the surface is around each pixel compared with the whole region, [h, w, 1]: dirt is lit too."""
        grey = _blurred(self.photo.mean(-1), 0.04 * self.reach)
        mean = float(grey[self.region].mean()) + 0.05
        return np.asarray(np.clip((grey + 0.05) / mean, 0.45, 1.6)[..., None], np.float32)


Painted = tuple[Array, Array]  # the new photo [h, w, 3] and how much of it shows [h, w], both 0..1


def add_fake(
    rng: np.random.Generator, pixels: NDArray[np.uint8], region_mask: Bools, label: str
) -> tuple[NDArray[np.uint8], Bools]:
    """Draw `label` somewhere inside `region_mask` [h, w] of `pixels` uint8 [h, w, 3].

    Returns the new pixels and the mask of the fake; outside the mask no pixel differs. A mask can be empty where the
    region is tiny. ValueError for unknown names, an empty region or one that is not the photo's size.
    """
    if label not in FAKES:
        raise ValueError(f"cannot draw {label!r}; known are {', '.join(FAKES)}")
    if region_mask.shape != pixels.shape[:2] or not region_mask.any():
        raise ValueError("the region must be a mask of the photo's size with at least one pixel")
    rows, columns = np.flatnonzero(region_mask.any(1)), np.flatnonzero(region_mask.any(0))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    photo = np.asarray(pixels[window].astype(np.float32) / 255, np.float32)
    region = region_mask[window]
    inner = _core(region)
    spot_y, spot_x = inner[rng.integers(len(inner))]
    x = (np.arange(region.shape[1]) - spot_x) + np.zeros(region.shape)
    y = (np.arange(region.shape[0]) - spot_y)[:, None] + np.zeros(region.shape)
    reach = float(np.sqrt(region.sum()))
    new, shows = FAKES[label](Cutting(rng, photo, region, x.astype(np.float32), y.astype(np.float32), reach))
    mask = region & (shows > _VISIBLE)
    blend = np.where(mask, np.clip(shows, 0, 1), 0)[..., None]
    result = pixels.copy()
    mixed = np.clip((photo * (1 - blend) + new * blend) * 255 + 0.5, 0, 255).astype(np.uint8)
    result[window] = np.where(mask[..., None], mixed, result[window])
    full = np.zeros_like(region_mask)
    full[window] = mask
    return result, full


def _core(region: Bools) -> NDArray[np.int64]:
    """Pixels [n, 2] well inside the region where there are any: dirt on an edge is mostly cut off."""
    depth = _blurred(region.astype(np.float32), 0.12 * float(np.sqrt(region.sum())))
    inside = region & (depth >= np.quantile(depth[region], 0.5))
    return np.argwhere(inside)


def _blurred(a: Array, radius: float) -> Array:
    byte = Image.fromarray((np.clip(a, 0, 1) * 255).astype(np.uint8))
    return np.asarray(np.asarray(byte.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255, np.float32)


def _lines(shape: tuple[int, int], paths: list[NDArray[np.float64]], width: float) -> Array:
    image = Image.new("L", (shape[1], shape[0]))
    pen = ImageDraw.Draw(image)
    for path in paths:
        pen.line([(float(a), float(b)) for a, b in path], fill=255, width=max(1, round(width)), joint="curve")
    return np.asarray(np.asarray(image, np.float32) / 255, np.float32)


def mud(c: Cutting) -> Painted:
    """Caked dirt with splashes around it; thick enough to hide the paint, lit like the sheet below."""
    radius = c.reach * c.rng.uniform(0.12, 0.35)
    q = np.hypot(c.x * c.rng.uniform(0.5, 1), c.y) / radius + 2.0 * (c.rough(0.5 * radius) - 0.5)
    splashes = np.clip((c.rough(max(2.5, 0.1 * radius)) - 0.62 - 0.1 * np.clip(q - 1, 0, 3)) * 12, 0, 1) * (q < 2.4)
    shows = np.maximum(np.clip((0.9 - q) * 6, 0, 1), splashes) * c.rng.uniform(0.75, 0.97)
    tone = np.array([0.42, 0.34, 0.24], np.float32) * c.rng.uniform(0.55, 1.15) * c.rng.uniform(0.92, 1.08, 3)
    grain = 0.75 + 0.5 * c.rough(max(2.0, 0.06 * radius))[..., None]
    return np.asarray(tone * grain * c.light(), np.float32), np.asarray(shows, np.float32)


def waterdrip(c: Cutting) -> Painted:
    """Drops with trails running down: they bend what is behind them and carry a highlight on their sunny side."""
    width = max(1.5, 0.009 * c.reach * c.rng.uniform(0.6, 1.6))
    origin = np.array([-c.x[0, 0], -c.y[0, 0]])
    paths = []
    for _ in range(c.rng.integers(3, 10)):
        steps = np.linspace(0, c.reach * c.rng.uniform(0.1, 0.45), 9)
        wobble = np.cumsum(c.rng.normal(0, 0.35 * width, 9))
        start = origin + c.rng.normal(0, 1, 2) * [0.16 * c.reach, 0.1 * c.reach]
        paths.append(start + np.stack([wobble, steps], -1))
    trail = _blurred(_lines(c.region.shape, paths, width), 0.35 * width)
    ends = [np.stack([p[-1] - [0, width], p[-1] + [0, width]]) for p in paths]
    film = np.clip(trail + _blurred(_lines(c.region.shape, ends, 2.2 * width), 0.5 * width), 0, 1)
    slope_y, slope_x = (g[1:-1, 1:-1] for g in np.gradient(np.pad(film, 1, mode="edge")))
    h, w = film.shape
    bend = 3.0 * width
    j = np.clip(np.arange(w) + bend * slope_x, 0, w - 1).astype(np.int64)
    i = np.clip(np.arange(h)[:, None] + bend * slope_y, 0, h - 1).astype(np.int64)
    side = 1 if c.rng.random() < 0.5 else -1
    shine = (side * slope_x - 0.5 * slope_y) * width
    new = c.photo[i, j] * (1 - 0.12 * film[..., None]) + c.rng.uniform(0.2, 0.45) * shine[..., None]
    return np.asarray(np.clip(new, 0, 1), np.float32), np.asarray(np.clip(film * 2.2, 0, 1), np.float32)


def stain(c: Cutting) -> Painted:
    """Tar, sap or coffee darken the paint; bird droppings cover it."""
    radius = c.reach * c.rng.uniform(0.06, 0.2)
    q = np.hypot(c.x, c.y * c.rng.uniform(0.6, 1.3)) / radius + 1.5 * (c.rough(0.6 * radius) - 0.5)
    body = np.clip((1 - q) * c.rng.uniform(3, 8), 0, 1)
    if c.rng.random() < 0.4:
        run = np.exp(-((c.x / (0.2 * radius)) ** 2)) * ((c.y > 0) & (c.y < 2.2 * radius + 0.8 * radius * c.noise(3)))
        white = np.array([0.9, 0.9, 0.84], np.float32) * (0.75 + 0.3 * c.rough(0.25 * radius)[..., None]) * c.light()
        return np.asarray(np.clip(white, 0, 1), np.float32), np.asarray(0.9 * np.maximum(body, run), np.float32)
    tint = np.array([0.3, 0.26, 0.2], np.float32) * c.rng.uniform(0.5, 1.3)
    edge = np.exp(-(((q - 0.85) / 0.12) ** 2))  # dried liquid is darkest at its rim
    shows = body * c.rng.uniform(0.45, 0.85) * (0.75 + 0.25 * edge)
    return np.asarray(c.photo * tint, np.float32), np.asarray(shows, np.float32)


def shadow(c: Cutting) -> Painted:
    """The shade of a post or of leaves: darker and bluer, with every detail of the paint still there."""
    lean = c.rng.uniform(-1.2, 1.2)
    if c.rng.random() < 0.5:
        band = np.abs(c.x + lean * c.y) / (c.reach * c.rng.uniform(0.06, 0.2))
        shade = np.clip((1.1 - band) * c.rng.uniform(2, 8), 0, 1)
    else:
        leaves = c.rough(c.reach * c.rng.uniform(0.1, 0.22))
        near = np.exp(-((np.hypot(c.x, c.y) / (0.5 * c.reach)) ** 2))
        shade = np.clip((leaves * near - 0.34) * c.rng.uniform(6, 14), 0, 1)
    soft = _blurred(np.asarray(shade, np.float32), 0.008 * c.reach + 0.7)
    dark = c.photo * np.array([0.36, 0.38, 0.43], np.float32) * c.rng.uniform(0.8, 1.3)
    return np.asarray(dark, np.float32), np.asarray(soft * c.rng.uniform(0.75, 1), np.float32)


def rust(c: Cutting) -> Painted:
    """Orange dust and its run-off on sound paint: a tint without edges, blisters or bare metal."""
    radius = c.reach * c.rng.uniform(0.1, 0.28)
    q = np.hypot(c.x, c.y) / radius + 1.6 * (c.rough(0.4 * radius) - 0.5)
    runs = np.clip((c.noise(max(2.0, 0.12 * radius))[:1] - 0.45) * 3, 0, 1) * c.noise(radius)
    below = np.clip(1 - c.y / (2.5 * radius), 0, 1) * (c.y > 0) * (np.abs(c.x) < 0.8 * radius)
    shows = np.maximum(np.clip(1.1 - q, 0, 1), 0.8 * below * runs) * (0.5 + 0.5 * c.rough(max(2.0, 0.1 * radius)))
    tone = np.array([0.66, 0.33, 0.13], np.float32) * c.rng.uniform(0.75, 1.15)
    mixed = 0.55 * tone * c.light() + 0.45 * c.photo * tone * 1.6
    return np.asarray(np.clip(mixed, 0, 1), np.float32), np.asarray(np.clip(shows * 1.2, 0, 0.85), np.float32)


def reflection(c: Cutting) -> Painted:
    """A streak of light, or the surroundings mirrored in the paint."""
    lean, width = c.rng.uniform(-1.5, 1.5), c.reach * c.rng.uniform(0.03, 0.12)
    wave = 0.5 * width * np.sin(c.y / c.reach * c.rng.uniform(6, 20))
    streak = np.exp(-(((c.x + lean * c.y + wave) / width) ** 2)) * np.exp(
        -((np.hypot(c.x, c.y) / (0.4 * c.reach)) ** 4)
    )
    if c.rng.random() < 0.5:
        glow = c.photo + (1 - c.photo) * np.array([1, 1, c.rng.uniform(0.85, 1)], np.float32)
        return np.asarray(glow, np.float32), np.asarray(streak * c.rng.uniform(0.5, 0.95), np.float32)
    mirrored = np.stack([_blurred(c.photo[::-1, ::-1, k], 0.015 * c.reach) for k in range(3)], -1)
    image = np.clip(c.photo * 0.6 + 0.75 * mirrored + 0.12, 0, 1)
    patch = np.clip((1 - np.hypot(c.x, 0.6 * c.y) / (0.3 * c.reach) + 0.8 * (c.rough(0.2 * c.reach) - 0.5)) * 5, 0, 1)
    return np.asarray(image, np.float32), np.asarray(patch * c.rng.uniform(0.5, 0.8), np.float32)


def crease(c: Cutting) -> Painted:
    """A pressed line in the sheet: light above, dark below, long, even and gently curved."""
    lean, bow, soft = c.rng.normal(0, 0.15), c.rng.normal(0, 0.25), max(1.2, c.reach * c.rng.uniform(0.008, 0.025))
    across = (c.y - lean * c.x - bow * c.x**2 / c.reach) / soft
    fade = np.clip((0.5 * c.reach - np.abs(c.x)) / (0.15 * c.reach), 0, 1)
    slope = across * np.exp(-(across**2) / 2) * (1 if c.rng.random() < 0.7 else -1)
    new = np.clip(c.photo * (1 - 0.75 * slope[..., None] * c.rng.uniform(0.5, 1)) - 0.03 * slope[..., None], 0, 1)
    shows = np.exp(-((across / 2.4) ** 4)) * fade
    return np.asarray(new, np.float32), np.asarray(shows, np.float32)


FAKES: dict[str, Callable[[Cutting], Painted]] = {
    "fakeshape": crease,
    "fakewaterdrip": waterdrip,
    "fakemud": mud,
    "fakestain": stain,
    "fakeshadow": shadow,
    "fakerust": rust,
    "fakereflection": reflection,
}
