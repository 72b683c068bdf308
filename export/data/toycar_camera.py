"""The toy car seen by a camera: for every pixel which surface it shows, where on it, and how that spot is turned.

Quads are drawn far to near as their numbers into one picture; a second, vectorised pass turns numbers into
attributes. Masks taken from it are exact: they are the very pixels that were drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from export.data.toycar_geometry import Array, Mesh

AZIMUTHS = {  # degrees around the car; 90 looks at its own left side
    "front": 0,
    "front_left": 40,
    "left": 90,
    "rear_left": 140,
    "rear": 180,
    "rear_right": 220,
    "right": 270,
    "front_right": 320,
}


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: axes (right, up, forward) [3, 3], its position, focal length and centre in pixels."""

    axes: Array
    position: Array
    focal: float
    centre: tuple[float, float]

    def project(self, points: Array) -> tuple[Array, Array]:
        """[..., 3] metres -> pixels [..., 2] and distances [...] along the viewing direction."""
        seen = (points - self.position) @ self.axes.T
        depth = np.maximum(seen[..., 2], 0.1)
        pixels = np.stack([seen[..., 0], -seen[..., 1]], -1) * (self.focal / depth[..., None])
        return np.asarray(pixels + np.array(self.centre), np.float32), np.asarray(depth, np.float32)

    def rays(self, size: int) -> Array:
        """Unit viewing directions of all pixels, [size, size, 3]."""
        y, x = np.mgrid[0:size, 0:size].astype(np.float32) + 0.5
        local = np.stack([(x - self.centre[0]) / self.focal, -(y - self.centre[1]) / self.focal, np.ones_like(x)], -1)
        world = local @ self.axes
        return np.asarray(world / np.linalg.norm(world, axis=-1, keepdims=True), np.float32)


@dataclass(frozen=True)
class Spots:
    """What the car's n pixels show: flat pixel indices, surface, (u, v), unit normal, and pixels per metre there."""

    index: NDArray[np.int64]
    surface: NDArray[np.uint8]
    u: Array
    v: Array
    normal: Array
    scale: Array


def look(rng: np.random.Generator, mesh: Mesh, view: str, size: int) -> Camera:
    """A camera for a named view, at a person's height and distance, that frames the car."""
    azimuth = np.deg2rad(AZIMUTHS[view] + rng.uniform(-9, 9))
    target = mesh.corners.reshape(-1, 3).mean(0)
    distance, height = rng.uniform(5.5, 9), rng.uniform(0.9, 2.0)
    offset = np.array([-np.cos(azimuth) * distance, -np.sin(azimuth) * distance, height - target[2]], np.float32)
    forward = -offset / np.linalg.norm(offset)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    roll = rng.normal(0, 0.02)
    right, up = right * np.cos(roll) + up * np.sin(roll), up * np.cos(roll) - right * np.sin(roll)
    axes = np.stack([right, up, forward]).astype(np.float32)
    bare = Camera(axes, (target + offset).astype(np.float32), 1, (0, 0))
    flat, _ = bare.project(mesh.corners)
    low, high = flat.min((0, 1)), flat.max((0, 1))
    focal = rng.uniform(0.78, 0.98) * size / float((high - low).max())
    slack = (size - (high - low) * focal) / 2
    shift = slack * rng.uniform(-0.7, 0.7, 2)
    centre = size / 2 - (low + high) / 2 * focal + shift
    return Camera(axes, bare.position, focal, (float(centre[0]), float(centre[1])))


def draw(mesh: Mesh, camera: Camera, size: int) -> Spots:
    """Rasterise all quads that face the camera."""
    to_camera = camera.position - mesh.corners.mean(1)
    facing = (mesh.normals.mean(1) * to_camera).sum(-1) > 0
    pixels, depth = camera.project(mesh.corners[facing])
    order = np.argsort(-(depth.mean(1) - mesh.bias[facing]), kind="stable")
    numbers = Image.new("I", (size, size))
    pen = ImageDraw.Draw(numbers)
    flat = pixels[order].reshape(-1, 8).tolist()
    for number, corners in enumerate(flat, start=1):
        pen.polygon(corners, fill=number)
    drawn = np.asarray(numbers).ravel()
    index = np.flatnonzero(drawn)
    quad = order[drawn[index] - 1]
    attributes = np.concatenate([mesh.uv[facing], mesh.normals[facing]], -1)
    y, x = np.divmod(index, size)
    values = _interpolate(pixels, attributes, quad, np.stack([x, y], -1).astype(np.float32) + 0.5)
    normal = values[:, 2:]
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
    scale = (camera.focal / depth.mean(1))[quad].astype(np.float32)
    return Spots(index, mesh.surface[facing][quad], values[:, 0], values[:, 1], normal, scale)


def _interpolate(pixels: Array, attributes: Array, quad: NDArray[np.int64], at: Array) -> Array:
    """Least-squares affine map of each quad's four corners [q, 4, k], evaluated at pixels [n, 2] -> [n, k].

    Quads are small, so the error against true perspective is a fraction of a pixel; values never leave the range of
    the corners, which keeps quads seen edge-on from running away.
    """
    middle, mean = pixels.mean(1, keepdims=True), attributes.mean(1, keepdims=True)
    d, a = pixels - middle, attributes - mean
    xx, yy, xy = (d[..., 0] ** 2).sum(1), (d[..., 1] ** 2).sum(1), (d[..., 0] * d[..., 1]).sum(1)
    determinant = xx * yy - xy**2 + 1e-4
    bx, by = (d[..., :1] * a).sum(1), (d[..., 1:] * a).sum(1)
    gx = (yy[:, None] * bx - xy[:, None] * by) / determinant[:, None]
    gy = (xx[:, None] * by - xy[:, None] * bx) / determinant[:, None]
    delta = at - middle[quad, 0]
    values = mean[quad, 0] + gx[quad] * delta[:, :1] + gy[quad] * delta[:, 1:]
    return np.asarray(np.clip(values, attributes.min(1)[quad], attributes.max(1)[quad]), np.float32)
