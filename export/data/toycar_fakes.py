"""Things on the toy car that look like damage and are none; names come from the label file only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from export.data.toycar_damage import Place, patch
from export.data.toycar_parts import PART_IDS
from export.data.toycar_patch import Canvas, Patch

ALL = list(PART_IDS)


def mud(rng: np.random.Generator, place: Place) -> Patch:
    canvas = Canvas(rng, 1.2, 0.006)
    q = np.hypot(canvas.u * rng.uniform(0.5, 1), canvas.v) / rng.uniform(0.12, 0.3) + 1.8 * (canvas.rough(0.16) - 0.5)
    splashes = canvas.rough(0.035) > 0.66 + 0.12 * np.clip(q - 1, 0, 2)
    cover = ((q < 0.8) | (splashes & (q < 1.8))).astype(np.float32)
    colour = np.array([0.36, 0.28, 0.18], np.float32) * (0.65 + 0.7 * canvas.rough(0.03)[..., None])
    soft = canvas.blur(cover, 0.004)
    return patch(
        place, canvas, "fakemud", cover > 0, kind="fake", alpha=0.94 * soft, colour=colour, gloss=1 - 0.9 * soft,
        height=0.003 * soft * canvas.noise(0.02), parts=ALL,
    )  # fmt: skip


def waterdrip(rng: np.random.Generator, place: Place) -> Patch:
    canvas = Canvas(rng, 0.8, 0.004)
    paths = []
    for u in rng.normal(0, 0.13, rng.integers(4, 9)):
        start = (float(u), float(rng.uniform(-0.1, 0.15)))
        paths.append(canvas.walk(start, -np.pi / 2, rng.uniform(0.08, 0.3), 8, 0.06))
    width = max(0.008, 0.9 * place.grain)
    line = canvas.lines(paths, width)
    bead = canvas.blur(line, 0.5 * width)
    return patch(
        place, canvas, "fakewaterdrip", canvas.lines(paths, max(0.02, 3 * place.grain)) > 0, strict=line > 0.5,
        kind="fake", alpha=0.12 * line, colour=(0.9, 0.93, 0.95), height=0.006 * bead, gloss=1 + 0.8 * line, parts=ALL,
    )  # fmt: skip


def stain(rng: np.random.Generator, place: Place) -> Patch:
    """Tar, sap or bird droppings."""
    canvas = Canvas(rng, 0.7, 0.004)
    q = np.hypot(canvas.u, canvas.v * rng.uniform(0.6, 1)) / rng.uniform(0.05, 0.16) + 1.2 * (canvas.rough(0.09) - 0.5)
    white = rng.random() < 0.4
    cover = canvas.blur((q < 0.8).astype(np.float32), 0.006) * (0.85 if white else rng.uniform(0.4, 0.75))
    colour = (0.88, 0.88, 0.82) if white else (0.1, 0.09, 0.07)
    return patch(
        place,
        canvas,
        "fakestain",
        cover > 0.1,
        kind="fake",
        alpha=cover,
        colour=colour,
        gloss=1 - 0.5 * cover,
        parts=ALL,
    )


def shadow(rng: np.random.Generator, place: Place) -> Patch:
    canvas = Canvas(rng, 1.4, 0.008)
    lean, width = rng.uniform(-1, 1), rng.uniform(0.06, 0.25)
    band = 1 - np.abs(canvas.u + lean * canvas.v) / width
    ends = np.clip((0.62 - np.abs(canvas.v)) / 0.06, 0, 1)
    soft = (np.clip(band * rng.uniform(2, 6), 0, 1) * ends * rng.uniform(0.45, 0.7)).astype(np.float32)
    return patch(
        place, canvas, "fakeshadow", soft > 0.08, strict=soft > 0.3, kind="fake", alpha=soft, gloss=1 - 0.6 * soft,
        parts=ALL,
    )  # fmt: skip


def rust(rng: np.random.Generator, place: Place) -> Patch:
    """Orange dirt lying on sound paint: no edges, no blisters."""
    canvas = Canvas(rng, 0.8, 0.005)
    q = np.hypot(canvas.u, canvas.v) / rng.uniform(0.1, 0.22) + 1.4 * (canvas.rough(0.1) - 0.5)
    run = np.exp(-((canvas.u / 0.03) ** 2)) * (canvas.v < 0) * np.exp(canvas.v / 0.2) * 0.5
    cover = (np.clip((1 - q) * 1.4 + run, 0, 0.75) * (0.6 + 0.4 * canvas.noise(0.02))).astype(np.float32)
    colour = np.array([0.55, 0.27, 0.1], np.float32) * (0.7 + 0.5 * canvas.rough(0.04)[..., None])
    return patch(
        place, canvas, "fakerust", cover > 0.1, strict=cover > 0.25, kind="fake", alpha=cover, colour=colour,
        gloss=1 - 0.4 * cover, parts=ALL,
    )  # fmt: skip


def reflection(rng: np.random.Generator, place: Place) -> Patch:
    canvas = Canvas(rng, 1.0, 0.006)
    lean, width = rng.uniform(-1.5, 1.5), rng.uniform(0.015, 0.06)
    wave = 0.03 * np.sin(canvas.v * rng.uniform(8, 25))
    streak = np.exp(-(((canvas.u + lean * canvas.v + wave) / width) ** 2)) * (np.hypot(canvas.u, canvas.v) < 0.42)
    glow = (rng.uniform(0.5, 0.85) * streak).astype(np.float32)
    return patch(
        place, canvas, "fakereflection", glow > 0.12, strict=glow > 0.3, kind="fake", alpha=glow,
        colour=(1.0, 1.0, 0.97), parts=ALL,
    )  # fmt: skip


def crease(rng: np.random.Generator, place: Place) -> Patch:
    """A designed edge in the sheet: long, straight and even, unlike any dent."""
    canvas = Canvas(rng, 1.3, 0.006)
    lean, soft = rng.normal(0, 0.12), rng.uniform(0.012, 0.03)
    across = canvas.v - lean * canvas.u - 0.06 * canvas.u**2
    step = rng.choice([-1, 1]) * rng.uniform(0.4, 0.8) * soft * np.tanh(across / soft)
    fade = np.clip((0.62 - np.abs(canvas.u)) / 0.15, 0, 1) * np.exp(-((across / 0.15) ** 2))
    mask = (np.abs(across) < 1.8 * soft) & (np.abs(canvas.u) < 0.55)
    return patch(
        place,
        canvas,
        "fakeshape",
        mask,
        kind="fake",
        height=(step * fade).astype(np.float32),
        strict=mask & (np.abs(across) < soft),
    )


FAKES: dict[str, Callable[[np.random.Generator, Place], Patch]] = {
    "fakeshape": crease,
    "fakewaterdrip": waterdrip,
    "fakemud": mud,
    "fakestain": stain,
    "fakeshadow": shadow,
    "fakerust": rust,
    "fakereflection": reflection,
}
