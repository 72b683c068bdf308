"""Damages of the toy car. Each maker paints one patch; names come from the label file only.

What is painted is the truth: a dent's mask is where the sheet is bent, a scratch's where the line runs (widened to
what a labeller can outline), so no mask is ever a guess.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from export.data.toycar_geometry import Array, Mesh
from export.data.toycar_parts import PART_IDS
from export.data.toycar_patch import Bools, Canvas, Patch, Point


@dataclass(frozen=True)
class Place:
    """Where to paint: a part, a spot on one of its surfaces, metres per pixel there, and the paint's colour."""

    part: str
    surface: str
    centre: Point
    grain: float
    paint: Array


def patch(
    place: Place,
    canvas: Canvas,
    label: str,
    mask: Bools,
    *,
    kind: str = "damage",
    strict: Bools | None = None,
    alpha: Array | None = None,
    colour: Array | tuple[float, float, float] = (0, 0, 0),
    height: Array | None = None,
    gloss: Array | None = None,
    parts: list[str] | None = None,
    everywhere: bool = False,
) -> Patch:
    """A patch with everything not given left as the paint is."""
    blank = canvas.blank()
    return Patch(
        kind=kind,
        label=label,
        part=place.part,
        parts=np.array([PART_IDS[p] for p in parts or [place.part]], np.uint8),
        surface="" if everywhere else place.surface,
        centre=place.centre,
        size=canvas.size,
        alpha=blank if alpha is None else alpha,
        colour=np.broadcast_to(np.asarray(colour, np.float32), (canvas.n, canvas.n, 3)),
        height=blank if height is None else height,
        gloss=blank + 1 if gloss is None else gloss,
        mask=mask,
        strict=mask if strict is None else strict & mask,
    )


def dent(rng: np.random.Generator, place: Place) -> Patch:
    a, b = rng.uniform(0.09, 0.3), rng.uniform(0.07, 0.2)
    canvas = Canvas(rng, 3.2 * max(a, b), 0.006)
    turn = rng.uniform(0, np.pi)
    x = canvas.u * np.cos(turn) + canvas.v * np.sin(turn)
    y = canvas.v * np.cos(turn) - canvas.u * np.sin(turn)
    q = (x / a) ** 2 + (y / b) ** 2 + 0.5 * (canvas.noise(0.12) - 0.5)
    bowl = np.exp(-1.6 * np.clip(q, 0, None)).astype(np.float32)
    rim = 0.25 * np.exp(-4 * (np.sqrt(np.clip(q, 0, None)) - 1.1) ** 2)  # pushed-in sheet rises around the bowl
    depth = rng.uniform(0.2, 0.42) * min(a, b)
    return patch(place, canvas, "dent", q < 1, strict=q < 0.7, height=(depth * (rim - bowl)).astype(np.float32))


def scratch(rng: np.random.Generator, place: Place) -> Patch:
    length = rng.uniform(0.2, 0.8)
    canvas = Canvas(rng, 2 * length, 0.004)
    angle = rng.normal(0, 0.45) + np.pi * rng.integers(2)
    paths = [
        canvas.walk((rng.normal(0, 0.02) - 0.4 * length * np.cos(angle), rng.normal(0, 0.03)),
                    angle + rng.normal(0, 0.05), length * rng.uniform(0.5, 1), 12, 0.06)
        for _ in range(rng.integers(1, 6))
    ]  # fmt: skip
    line = canvas.lines(paths, max(0.006, place.grain * rng.uniform(0.6, 1.1)))
    bright = place.paint.mean() < 0.5
    primer = np.array([0.8, 0.8, 0.78] if bright else [0.25, 0.25, 0.27], np.float32)
    wide = canvas.lines(paths, max(0.02, 3 * place.grain)) > 0
    return patch(
        place, canvas, "scratch", wide, strict=line > 0.5, alpha=0.8 * line, colour=primer, gloss=1 - 0.6 * line,
        height=-0.002 * line,
    )  # fmt: skip


def crack(rng: np.random.Generator, place: Place) -> Patch:
    canvas = Canvas(rng, 0.7, 0.004)
    paths = [canvas.walk((0, 0), rng.uniform(0, 6.28), rng.uniform(0.12, 0.3), 10, 0.35)]
    for _ in range(rng.integers(1, 4)):
        start = paths[0][rng.integers(1, len(paths[0]))]
        paths.append(canvas.walk(start, rng.uniform(0, 6.28), rng.uniform(0.06, 0.16), 7, 0.4))
    line = canvas.lines(paths, max(0.007, 0.9 * place.grain))
    wide = canvas.lines(paths, max(0.025, 3 * place.grain)) > 0
    return patch(
        place, canvas, "crack", wide, strict=line > 0.5, alpha=line, colour=(0.02, 0.02, 0.02), gloss=1 - line,
        height=-0.006 * canvas.blur(line, 0.012),
    )  # fmt: skip


def crackedpaint(rng: np.random.Generator, place: Place) -> Patch:
    canvas = Canvas(rng, 0.6, 0.004)
    q = np.hypot(canvas.u, canvas.v) / rng.uniform(0.07, 0.19) + 1.4 * (canvas.rough(0.12) - 0.5)
    region = q < 0.85
    flakes = region & (canvas.rough(0.05) > 0.42)
    primer = np.array([0.62, 0.63, 0.64] if rng.random() < 0.7 else [0.48, 0.3, 0.2], np.float32)
    colour = primer * (0.85 + 0.3 * canvas.noise(0.02)[..., None])
    bare = flakes.astype(np.float32)
    edge = canvas.blur(bare, 0.005)
    return patch(
        place, canvas, "crackedpaint", region, strict=flakes, alpha=bare, colour=colour, gloss=1 - 0.85 * bare,
        height=-0.004 * edge,
    )  # fmt: skip


def brokenlight(rng: np.random.Generator, place: Place) -> Patch:
    canvas = Canvas(rng, 0.9, 0.005)
    angles = np.sort(rng.uniform(0, 6.28, 9))
    radii = rng.uniform(0.04, 0.16, 9)
    hole = canvas.polygon(
        [(float(r * np.cos(a)), float(r * np.sin(a)) * 0.6) for r, a in zip(radii, angles, strict=True)]
    )
    rays = [canvas.walk((0, 0), a, rng.uniform(0.15, 0.4), 4, 0.15) for a in rng.uniform(0, 6.28, 9)]
    line = canvas.lines(rays, max(0.005, 0.7 * place.grain))
    inside = np.array([0.05, 0.05, 0.05], np.float32) * (0.4 + 1.6 * canvas.rough(0.05)[..., None])
    colour = np.where(hole[..., None] > 0, inside, np.float32(0.92))
    changed = np.maximum(hole, 0.8 * line)
    everything = np.ones((canvas.n, canvas.n), np.bool_)  # the whole lamp counts as broken
    return patch(
        place,
        canvas,
        "brokenlight",
        everything,
        strict=changed > 0.3,
        alpha=changed,
        colour=colour,
        gloss=1 - 0.9 * hole,
    )


def shatteredglass(rng: np.random.Generator, place: Place) -> Patch:
    radius = rng.uniform(0.14, 0.42)
    canvas = Canvas(rng, 2.4 * radius, 0.004)
    angles = np.sort(rng.uniform(0, 6.28, 16))
    paths = [canvas.walk((0, 0), a, radius * rng.uniform(0.8, 1.15), 6, 0.08) for a in angles]
    for share in (0.15, 0.3, 0.5, 0.75):
        ring = radius * share * rng.uniform(0.85, 1.15, len(angles))
        points = [(float(r * np.cos(a)), float(r * np.sin(a))) for r, a in zip(ring, angles, strict=True)]
        paths.append([*points, points[0]])
    line = canvas.lines(paths, max(0.004, 0.5 * place.grain))
    disc = np.hypot(canvas.u, canvas.v) < radius
    haze = np.where(disc, 0.28 * canvas.noise(0.03) * np.exp(-np.hypot(canvas.u, canvas.v) / radius), 0)
    alpha = np.clip(np.maximum(haze, 0.7 * line), 0, 1).astype(np.float32)
    return patch(
        place, canvas, "shatteredglass", disc | (line > 0), strict=line > 0.5, alpha=alpha, colour=(0.85, 0.9, 0.92)
    )


def missingpart(rng: np.random.Generator, place: Place) -> Patch:
    """The part is gone: one looks at dark structure behind it, with a bar or two."""
    canvas = Canvas(rng, 1.0, 0.01)
    shade = 0.03 + 0.1 * canvas.rough(0.25) + 0.12 * ((canvas.v + rng.uniform(0, 0.1)) % 0.25 < 0.04)
    colour = np.asarray(shade, np.float32)[..., None] * np.array([1, 0.97, 0.93], np.float32)
    full = canvas.blank() + 1
    return patch(place, canvas, "missingpart", full > 0, alpha=full, colour=colour, gloss=0 * full, everywhere=True)


def torn(rng: np.random.Generator, place: Place) -> Patch:
    """A piece ripped out: a jagged dark hole whose rim shows raw plastic."""
    canvas = Canvas(rng, 0.8, 0.005)
    angles = np.linspace(0, 6.28, 15)[:-1]
    radii = rng.uniform(0.07, 0.2) * rng.uniform(0.45, 1.3, 14)
    stretch = rng.uniform(1.0, 1.9)
    hole = canvas.polygon(
        [(float(stretch * r * np.cos(a)), float(r * np.sin(a))) for r, a in zip(radii, angles, strict=True)]
    )
    rim = np.clip(canvas.blur(hole, 0.012) * 3, 0, 1)
    raw = np.array([0.2, 0.2, 0.2], np.float32)
    dark = np.array([0.03, 0.03, 0.03], np.float32) * (0.5 + 1.5 * canvas.rough(0.1)[..., None])
    return patch(
        place, canvas, "torn", rim > 0.3, strict=hole > 0.5, alpha=np.maximum(rim, hole).astype(np.float32),
        colour=np.where(hole[..., None] > 0.5, dark, raw), gloss=1 - rim, height=(-0.02 * rim).astype(np.float32),
    )  # fmt: skip


def _shape_only(label: str) -> Callable[[np.random.Generator, Place], Patch]:
    """A damage that the mesh itself shows (see `deform`): the patch only says that all of the part is damaged."""

    def make(rng: np.random.Generator, place: Place) -> Patch:
        canvas = Canvas(rng, 1.0, 0.05)
        return patch(place, canvas, label, canvas.blank() == 0, everywhere=True)

    return make


DAMAGES: dict[str, Callable[[np.random.Generator, Place], Patch]] = {
    "dent": dent,
    "scratch": scratch,
    "crack": crack,
    "crackedpaint": crackedpaint,
    "brokenlight": brokenlight,
    "shatteredglass": shatteredglass,
    "flattire": _shape_only("flattire"),
    "missingpart": missingpart,
    "torn": torn,
    "detached": _shape_only("detached"),
}

# Of the parts where a damage can occur, those on which the toy car can show it.
SHOWN_ON = {
    "detached": ("front_bumper", "rear_bumper"),
    "torn": ("front_bumper", "rear_bumper", "front_grille", "lower_grille", "front_left_fender", "front_right_fender"),
    "missingpart": (
        "left_headlight", "right_headlight", "left_taillight", "right_taillight", "front_grille", "lower_grille",
        "front_license_plate", "rear_license_plate", "fuel_door", "front_bumper", "rear_bumper",
    ),
}  # fmt: skip


def deform(mesh: Mesh, patches: list[Patch], surfaces: tuple[str, ...]) -> Mesh:
    """The mesh with flat tires sunk to the ground and detached bumpers hanging from one end; else the mesh itself."""
    if not any(p.label in ("flattire", "detached") for p in patches):
        return mesh
    corners = mesh.corners.copy()
    for p in patches:
        if p.label == "flattire":
            wheel = mesh.surface == surfaces.index(p.part.removesuffix("_tire"))
            points = corners[wheel]
            hub, radius = points.reshape(-1, 3).mean(0), np.ptp(points[..., 2]) / 2
            sunk = points[..., 2] - 0.22 * radius
            squeezed = np.clip(0.25 * radius - sunk, 0, None) / radius
            points[..., 0] = hub[0] + (points[..., 0] - hub[0]) * (1 + 0.9 * squeezed)
            points[..., 2] = np.maximum(sunk, 0)
            corners[wheel] = points
        elif p.label == "detached":
            front = p.part == "front_bumper"
            x = corners[..., 0] if front else corners[..., 0].max() - corners[..., 0]
            low = np.clip((0.62 - corners[..., 2]) / 0.1, 0, 1) * np.clip((0.45 - x) / 0.1, 0, 1)
            lateral = np.clip(0.5 + corners[..., 1] * (1 if p.centre[0] > 0 else -1), 0, 1)
            bumper = ~np.isin(mesh.surface, [surfaces.index(s) for s in surfaces if s.endswith(("_left", "_right"))])
            weight = np.where(bumper[:, None], low * lateral, 0)
            corners[..., 2] = np.maximum(corners[..., 2] - 0.2 * weight, 0.02)
            corners[..., 0] += (-0.12 if front else 0.12) * weight
    return Mesh(corners, mesh.uv, mesh.normals, mesh.surface, mesh.bias)
