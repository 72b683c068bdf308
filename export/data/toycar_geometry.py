"""The toy car's shape: a few lofted surfaces in metres, and which part lies where on each of them.

The car stands on z = 0 and looks towards -x; its own left is -y. Surfaces and their coordinates (u, v):

    left, right   x along the car, z up            top     arc length along the profile, y across
    front, rear   y across, z up                   wheels  x and z from the hub        mirrors  angles

A part is a polygon in (u, v). Whatever is drawn on a surface is therefore seen alike from every camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

CORNERS = ("front_left", "front_right", "rear_left", "rear_right")
SURFACES = ("left", "right", "top", "front", "rear", *CORNERS, "mirror_left", "mirror_right")


@dataclass(frozen=True)
class Body:
    """Measures of one body type in metres; x from the nose, z from the ground."""

    length: float
    half_width: float
    profile: tuple[tuple[float, float], ...]  # (x, z): nose, cowl, roof start, roof end, rear window base, tail
    belt: float
    pillar: float  # x of the B-pillar
    rear_door_end: float
    wheels: tuple[float, float]  # x of the axles
    radius: float

    @property
    def sill(self) -> float:
        return self.radius * 0.75


BODIES = {
    "sedan": Body(4.5, 0.9, ((0, 0.7), (1.25, 0.95), (2.0, 1.42), (3.1, 1.4), (3.8, 1.0), (4.5, 0.9)),
                  0.93, 2.4, 3.3, (0.85, 3.55), 0.32),
    "hatchback": Body(3.9, 0.86, ((0, 0.72), (1.0, 0.98), (1.7, 1.5), (3.25, 1.44), (3.72, 1.02), (3.9, 0.9)),
                      0.96, 2.15, 2.95, (0.75, 3.2), 0.3),
    "suv": Body(4.6, 0.94, ((0, 0.88), (1.2, 1.12), (1.85, 1.68), (4.0, 1.66), (4.45, 1.18), (4.6, 1.0)),
                1.1, 2.45, 3.35, (0.88, 3.68), 0.37),
}  # fmt: skip


@dataclass(frozen=True)
class Mesh:
    """Quads: corners [n, 4, 3], their (u, v) [n, 4, 2] and outward normals [n, 4, 3]; which surface; depth bias."""

    corners: Array
    uv: Array
    normals: Array
    surface: NDArray[np.uint8]
    bias: Array


def top_line(body: Body, x: Array) -> Array:
    """Height of the outline at x: the profile with its corners rounded over about 20 cm."""
    xs, zs = np.array(body.profile, np.float32).T
    offsets = np.linspace(-0.1, 0.1, 5, dtype=np.float32)
    return np.asarray(np.mean([np.interp(x + d, xs, zs) for d in offsets], 0), np.float32)


def half_width(body: Body, x: Array, z: Array) -> Array:
    """Half the car's width at (x, z): tapered towards both ends, barrelled below the belt, drawn in above it."""
    t = (x - body.length / 2) / (body.length / 2)
    plan = 1 - 0.13 * t**4
    barrel = 1 - 0.05 * ((z - 0.6) / 0.45) ** 2
    cabin = 1 - 0.42 * np.clip(z - body.belt, 0, None) ** 1.1
    return np.asarray(body.half_width * plan * np.where(z < body.belt, barrel, barrel * cabin), np.float32)


def arc(body: Body) -> tuple[Array, Array]:
    """x stations of the top surface and the arc length up to each."""
    x = np.linspace(0, body.length, 45, dtype=np.float32)
    step = np.hypot(np.diff(x), np.diff(top_line(body, x)))
    return x, np.concatenate([[0], np.cumsum(step)]).astype(np.float32)


@cache
def mesh(body_name: str) -> Mesh:
    """All quads of a body type."""
    body = BODIES[body_name]
    middle = np.array([body.length / 2, 0, 0.6], np.float32)
    pieces = [*_sides(body), _top(body), _end(body, front=True), _end(body, front=False)]
    quads = [_quads(SURFACES.index(name), points, uv, middle) for name, points, uv in pieces]
    for corner in CORNERS:
        quads.append(_wheel(body, corner))
    for side in ("left", "right"):
        quads.append(_mirror(body, side))
    fields = zip(*((q.corners, q.uv, q.normals, q.surface, q.bias) for q in quads), strict=True)
    return Mesh(*(np.concatenate(field) for field in fields))


def _sides(body: Body) -> list[tuple[str, Array, Array]]:
    x = np.linspace(0, body.length, 37, dtype=np.float32)[:, None]
    t = np.linspace(0, 1, 13, dtype=np.float32)[None, :]
    low = body.sill - 0.04
    z = (low + (top_line(body, x) - low) * t).astype(np.float32)
    x = np.broadcast_to(x, z.shape)
    y = half_width(body, x, z)
    uv = np.stack([x, z], -1)
    return [(name, np.stack([x, sign * y, z], -1), uv) for name, sign in (("left", -1), ("right", 1))]


def _top(body: Body) -> tuple[str, Array, Array]:
    x, a = arc(body)
    z = top_line(body, x)
    across = np.linspace(-1, 1, 15, dtype=np.float32)[None, :]
    y = half_width(body, x, z)[:, None] * across
    crown = z[:, None] + 0.04 * (1 - across**2)
    points = np.stack([x[:, None] + _nose(body, x[:, None], across), y, crown], -1)
    uv = np.stack([np.broadcast_to(a[:, None], y.shape), y], -1)
    return "top", points.astype(np.float32), uv.astype(np.float32)


def _nose(body: Body, x: Array, across: Array) -> Array:
    """How far the rounded nose and tail stand out beyond the straight ends, fading over half a metre."""
    front = np.clip(1 - x / 0.5, 0, 1) ** 2
    rear = np.clip(1 - (body.length - x) / 0.5, 0, 1) ** 2
    return np.asarray((0.16 * rear - 0.22 * front) * (1 - across**2), np.float32)


def _end(body: Body, *, front: bool) -> tuple[str, Array, Array]:
    x0 = 0.0 if front else body.length
    across = np.linspace(-1, 1, 21, dtype=np.float32)[:, None]
    t = np.linspace(0, 1, 12, dtype=np.float32)[None, :]
    low, high = body.sill - 0.04, float(top_line(body, np.array([x0], np.float32))[0])
    z = low + (high + 0.04 * (1 - across**2) - low) * t
    y = half_width(body, np.full_like(z, x0), np.minimum(z, high)) * across
    bulge = np.asarray(1 + 0.35 * np.sin(np.pi * np.clip(t * 1.4, 0, 1)), np.float32)  # a bumper stands out below
    x = x0 + _nose(body, np.full_like(z, x0), across) * np.where(t == 1, 1, bulge)
    points = np.stack([np.broadcast_to(x, z.shape), y, z], -1).astype(np.float32)
    return ("front" if front else "rear"), points, np.stack([y, z], -1).astype(np.float32)


def _quads(surface: int, points: Array, uv: Array, middle: Array, bias: float = 0) -> Mesh:
    """A grid of points [i, j, 3] as quads with smooth normals that point away from `middle`."""
    normals = np.cross(np.gradient(points, axis=0), np.gradient(points, axis=1))
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
    if ((points - middle) * normals).sum() < 0:
        normals = -normals

    def corners(grid: Array) -> Array:
        four = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], 2)
        return four.reshape(-1, 4, grid.shape[-1]).astype(np.float32)

    n = (points.shape[0] - 1) * (points.shape[1] - 1)
    return Mesh(
        corners(points), corners(uv), corners(normals), np.full(n, surface, np.uint8), np.full(n, bias, np.float32)
    )


def _wheel(body: Body, corner: str) -> Mesh:
    """The outer face of a wheel, and its tread, which shows only below the body."""
    sign = -1 if corner.endswith("left") else 1
    hub = np.array([body.wheels[corner.startswith("rear")], sign * (body.half_width - 0.01), body.radius], np.float32)
    angle = np.linspace(0, 2 * np.pi, 25, dtype=np.float32)[:, None]
    surface = SURFACES.index(corner)

    def ring(radius: Array, depth: Array) -> tuple[Array, Array]:
        flat = np.stack([np.cos(angle) * radius, np.sin(angle) * radius], -1)
        y = np.broadcast_to(-sign * depth, flat.shape[:2])
        return hub + np.stack([flat[..., 0], y, flat[..., 1]], -1), flat

    r = body.radius
    face = ring(np.array([[0.02, 0.66 * r, 0.9 * r, r]], np.float32), np.array([[0.05, 0.03, 0.0, 0.03]], np.float32))
    tread = ring(np.array([[r, r]], np.float32), np.array([[0.03, 0.24]], np.float32))
    inside = hub - np.array([0, sign * 0.4, 0], np.float32)
    # The face lies over its arch, which is painted on the side; the tread lies behind the body.
    parts = [_quads(surface, *face, inside, bias=0.5), _quads(surface, *tread, hub, bias=-1.5)]
    fields = zip(*((q.corners, q.uv, q.normals, q.surface, q.bias) for q in parts), strict=True)
    return Mesh(*(np.concatenate(field) for field in fields))


def _mirror(body: Body, side: str) -> Mesh:
    sign = -1 if side == "left" else 1
    x = body.profile[1][0] + 0.38
    middle = np.array([x, sign * (body.half_width + 0.07), body.belt + 0.06], np.float32)
    lat = np.linspace(-np.pi / 2, np.pi / 2, 7, dtype=np.float32)[:, None]
    lon = np.linspace(0, 2 * np.pi, 11, dtype=np.float32)[None, :]
    sphere = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat) * np.ones_like(lon)], -1)
    points = middle + sphere * np.array([0.07, 0.13, 0.08], np.float32)
    uv = np.stack([0.1 * lon * np.ones_like(lat), 0.1 * lat * np.ones_like(lon)], -1)
    return _quads(SURFACES.index(f"mirror_{side}"), points.astype(np.float32), uv, middle, bias=0.2)
