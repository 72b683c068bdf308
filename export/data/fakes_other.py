"""The seven fake damages once more, built in another way, for evaluation only.

`fakes.py` makes textures from noise fields and mixes them into the photo. Here everything is drawn as shapes
(particles, polygons, brush strokes) and mixed in linear light. Nothing is shared, so what a model learned about one
renderer's habits does not help it on the other. Never train on these.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Bools = NDArray[np.bool_]
Point = tuple[float, float]
Drawing = tuple[Image.Image, Image.Image]  # linear-light picture (RGB bytes) and its coverage (L), crop-sized


class Board:
    """A crop in linear light, a spot in it, and `unit`: 1 % of the side of a square as large as the region."""

    def __init__(self, rng: np.random.Generator, crop: NDArray[np.uint8], spot: Point, unit: float) -> None:
        self.rng, self.spot, self.unit = rng, spot, unit
        linear = (crop / 255.0) ** 2.2
        self.photo = Image.fromarray((linear * 255).round().astype(np.uint8))
        self.cover = Image.new("L", self.photo.size)
        self.pen = ImageDraw.Draw(self.cover)

    def at(self, dx: float, dy: float) -> Point:
        """A point `dx`, `dy` units from the spot."""
        return self.spot[0] + dx * self.unit, self.spot[1] + dy * self.unit

    def blob(self, dx: float, dy: float, rx: float, ry: float, value: int = 255) -> None:
        x, y = self.at(dx, dy)
        rx, ry = max(rx * self.unit, 0.6), max(ry * self.unit, 0.6)
        self.pen.ellipse([x - rx, y - ry, x + rx, y + ry], fill=value)

    def softened(self, units: float) -> Image.Image:
        return self.cover.filter(ImageFilter.GaussianBlur(max(units * self.unit, 0.4)))

    def plain(self, colour: tuple[float, float, float], spread: float) -> Image.Image:
        """A flat colour with a speckle per pixel, lit by the photo below."""
        w, h = self.photo.size
        speckle = self.rng.normal(1, spread, (h, w, 1)).clip(0.4, 1.8)
        grey = np.asarray(self.photo.convert("L").filter(ImageFilter.BoxBlur(3 * self.unit + 1)), np.float64) / 255
        lit = (grey / max(float(np.median(grey)), 0.02)).clip(0.4, 1.8)[..., None]
        return Image.fromarray((np.array(colour) * speckle * lit * 255).clip(0, 255).astype(np.uint8))


def add_fake(
    rng: np.random.Generator, pixels: NDArray[np.uint8], region_mask: Bools, label: str
) -> tuple[NDArray[np.uint8], Bools]:
    """Same contract as `fakes.add_fake`: new pixels and the mask outside which nothing differs."""
    if label not in FAKES:
        raise ValueError(f"cannot draw {label!r}; known are {', '.join(FAKES)}")
    if region_mask.shape != pixels.shape[:2] or not region_mask.any():
        raise ValueError("the region must be a mask of the photo's size with at least one pixel")
    inside = np.argwhere(region_mask)
    (top, left), (bottom, right) = inside.min(0), inside.max(0) + 1
    # The most central of a few random pixels: away from the edges without another blur.
    tries = inside[rng.integers(len(inside), size=5)]
    y, x = tries[np.abs(tries - np.median(inside, 0)).sum(1).argmin()]
    board = Board(rng, pixels[top:bottom, left:right], (float(x - left), float(y - top)), len(inside) ** 0.5 / 100)
    drawn, cover = FAKES[label](board)
    share = np.asarray(cover, np.float64)[..., None] / 255
    mask = region_mask[top:bottom, left:right] & (share[..., 0] > 0.07)
    linear = np.asarray(board.photo, np.float64) * (1 - share) + np.asarray(drawn, np.float64) * share
    shown = ((linear / 255) ** (1 / 2.2) * 255).round().astype(np.uint8)
    result, full = pixels.copy(), np.zeros_like(region_mask)
    result[top:bottom, left:right][mask] = shown[mask]
    full[top:bottom, left:right] = mask
    return result, full


def splatter(b: Board) -> Drawing:
    """Mud thrown by a wheel: hundreds of clods along a fan."""
    heading, spread = b.rng.uniform(-2.6, -0.5), b.rng.uniform(0.25, 0.6)
    for _ in range(int(b.rng.integers(120, 420))):
        angle, distance = heading + b.rng.normal(0, spread), abs(b.rng.normal(0, 16))
        size = b.rng.pareto(2.2) * 0.7 + 0.3
        dx, dy = distance * np.cos(angle), distance * np.sin(angle)
        b.blob(dx, dy, min(size * b.rng.uniform(0.8, 2.0), 7), min(size, 6), int(b.rng.integers(170, 250)))
    brown = (0.13 * b.rng.uniform(0.6, 1.4), 0.085 * b.rng.uniform(0.7, 1.3), 0.045)
    return b.plain(brown, 0.3), b.softened(0.15)


def drops(b: Board) -> Drawing:
    """Beads that turn the picture behind them upside down, some with a tail."""
    upside = ImageChops.offset(b.photo.transpose(Image.Transpose.FLIP_TOP_BOTTOM), int(3 * b.unit), int(5 * b.unit))
    drawn = Image.blend(b.photo, upside.filter(ImageFilter.GaussianBlur(1)), 0.4)
    glint = ImageDraw.Draw(drawn)
    for _ in range(int(b.rng.integers(8, 30))):
        dx, dy, r = b.rng.normal(0, 14), b.rng.normal(0, 14), b.rng.uniform(0.7, 2.0)
        if b.rng.random() < 0.4:
            tail = b.rng.uniform(6, 30)
            b.pen.line(
                [b.at(dx, dy - tail), b.at(dx + b.rng.normal(0, 1), dy)], fill=140, width=max(1, int(r * b.unit))
            )
        b.blob(dx, dy, r, 1.3 * r, 230)
        x, y = b.at(dx - 0.35 * r, dy - 0.5 * r)
        g = max(0.3 * r * b.unit, 0.7)
        glint.ellipse([x - g, y - g, x + g, y + g], fill=(250, 250, 250))
        x, y = b.at(dx, dy + 0.9 * r)
        glint.arc([x - 2 * g, y - g, x + 2 * g, y + g], 20, 160, fill=(8, 8, 8))
    return drawn, b.softened(0.1)


def spill(b: Board) -> Drawing:
    """A puddle with a jagged outline and a dark rim, or a sticker with straight edges."""
    if b.rng.random() < 0.35:
        w, h, turn = b.rng.uniform(4, 14), b.rng.uniform(3, 9), b.rng.normal(0, 0.2)
        cos, sin = np.cos(turn), np.sin(turn)
        square = [(-w, -h), (w, -h), (w, h), (-w, h)]
        corners = [b.at(x * cos - y * sin, x * sin + y * cos) for x, y in square]
        b.pen.polygon(corners, fill=245)
        drawn = b.plain((b.rng.random() * 0.8, b.rng.random() * 0.8, b.rng.random() * 0.8), 0.04)
        ImageDraw.Draw(drawn).line([corners[0], corners[2]], fill=(235, 235, 235), width=max(1, int(1.5 * b.unit)))
        return drawn, b.softened(0.05)
    radius = b.rng.uniform(5, 17)
    outline = _jagged(b, [(radius * np.cos(a), radius * np.sin(a)) for a in np.linspace(0, 6.28, 8)[:-1]], 0.35)
    points = [b.at(*p) for p in outline]
    b.pen.polygon(points, fill=int(b.rng.integers(110, 190)))
    b.pen.line([*points, points[0]], fill=225, width=max(1, int(0.7 * b.unit)))
    tint = Image.new("RGB", b.photo.size, tuple(int(v) for v in b.rng.uniform([20, 15, 8], [70, 60, 45])))
    return ImageChops.multiply(b.photo, tint), b.softened(0.25)


def _jagged(b: Board, ring: list[Point], roughness: float) -> list[Point]:
    """Midpoint displacement: three rounds of splitting each edge and pushing its middle aside."""
    for level in range(3):
        split: list[Point] = []
        for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True):
            push = b.rng.normal(0, roughness * 0.5**level)
            split += [(x0, y0), ((x0 + x1) / 2 + push * (y1 - y0), (y0 + y1) / 2 - push * (x1 - x0))]
        ring = split
    return ring


def silhouettes(b: Board) -> Drawing:
    """Shadows of a railing, a branch with leaves or a standing person, all with one penumbra."""
    kind, lean = b.rng.integers(3), b.rng.uniform(-0.8, 0.8)
    if kind == 0:
        gap = b.rng.uniform(6, 14)
        for i in range(-3, 4):
            b.pen.line(
                [b.at(i * gap - 40 * lean, -40), b.at(i * gap + 40 * lean, 40)], fill=255, width=int(2 * b.unit) + 1
            )
    elif kind == 1:
        for t in np.linspace(-30, 30, 24):
            b.pen.line([b.at(t, lean * t), b.at(t + 3, lean * (t + 3))], fill=255, width=int(b.unit) + 1)
            b.blob(t + b.rng.normal(0, 2), lean * t + b.rng.normal(0, 6), b.rng.uniform(1.5, 4), b.rng.uniform(1, 2.5))
    else:
        b.blob(18 * lean, -26, 5, 6)
        b.pen.polygon([b.at(18 * lean - 8, -20), b.at(18 * lean + 8, -20), b.at(9, 40), b.at(-11, 40)], fill=255)
    dim = b.rng.uniform(0.12, 0.35)
    dark = b.photo.point([int(v * dim) for v in range(256)] * 3)
    return dark, b.softened(b.rng.uniform(0.4, 1.6))


def ochre(b: Board) -> Drawing:
    """Orange grains that gather along a seam and wash down from it."""
    length = b.rng.uniform(10, 30)
    for _ in range(int(b.rng.integers(250, 700))):
        along = b.rng.uniform(-length, length)
        fall = b.rng.exponential(6) if b.rng.random() < 0.6 else b.rng.normal(0, 1.5)
        grain = b.rng.uniform(0.3, 0.9)
        b.blob(along, fall + 0.05 * along, grain, grain * b.rng.uniform(1, 3), int(b.rng.integers(90, 200)))
    orange = (0.34 * b.rng.uniform(0.7, 1.2), 0.1 * b.rng.uniform(0.7, 1.3), 0.02)
    return b.plain(orange, 0.12), b.softened(0.5)


def panes(b: Board) -> Drawing:
    """A window or a lamp tube mirrored in the paint: bright quadrilaterals added to what is there."""
    lean, w, h = b.rng.uniform(-0.7, 0.7), b.rng.uniform(3, 9), b.rng.uniform(6, 20)
    for i in range(int(b.rng.integers(1, 4))):
        x = (i - 1) * 2.4 * w
        corners = [
            (x - w + lean * h, -h),
            (x + w + lean * h, -0.9 * h),
            (x + w - lean * h, h),
            (x - w - lean * h, 0.9 * h),
        ]
        b.pen.polygon([b.at(*corner) for corner in corners], fill=int(b.rng.integers(120, 220)))
    warm = tuple(int(v) for v in np.array([150, 150, 150]) * b.rng.uniform(0.8, 1.2, 3))
    return ImageChops.add(b.photo, Image.new("RGB", b.photo.size, warm)), b.softened(b.rng.uniform(0.3, 1.2))


def stroke(b: Board) -> Drawing:
    """A styling line as two brush strokes side by side along a Bezier curve, one lit and one in shade."""
    length, bow, gap = b.rng.uniform(18, 45), b.rng.normal(0, 6), b.rng.uniform(0.5, 1.3)
    t = np.linspace(0, 1, 24)
    x = (2 * t - 1) * length
    y = 2 * t * (1 - t) * bow + (2 * t - 1) * b.rng.normal(0, 4)
    width = max(1, round(1.4 * gap * b.unit))
    lift = Image.new("L", b.photo.size, 128)
    brush = ImageDraw.Draw(lift)
    for side, tone in ((-1, 205), (1, 58)):
        path = [b.at(float(u), float(v + side * gap)) for u, v in zip(x, y, strict=True)]
        brush.line(path, fill=tone, width=width, joint="curve")
    b.pen.line([b.at(float(u), float(v)) for u, v in zip(x, y, strict=True)], fill=255, width=3 * width, joint="curve")
    soft = np.asarray(lift.filter(ImageFilter.GaussianBlur(0.4 * gap * b.unit)), np.float64)[..., None] / 128
    lit = np.asarray(b.photo, np.float64) * soft**1.5 + 6 * (soft - 1)
    return Image.fromarray(lit.clip(0, 255).astype(np.uint8)), b.softened(0.3 * gap)


FAKES: dict[str, Callable[[Board], Drawing]] = {
    "fakeshape": stroke,
    "fakewaterdrip": drops,
    "fakemud": splatter,
    "fakestain": spill,
    "fakeshadow": silhouettes,
    "fakerust": ochre,
    "fakereflection": panes,
}
