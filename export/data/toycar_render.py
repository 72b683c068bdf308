"""Light, paint, background and camera of the toy car: from surface spots and patches to pixels."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from export.data.toycar_camera import Camera, Spots
from export.data.toycar_geometry import BODIES, SURFACES, Array
from export.data.toycar_parts import PART_IDS
from export.data.toycar_patch import Patch, bilinear


@dataclass(frozen=True)
class World:
    """What stays the same in all photos of a claim: paint, light and surroundings."""

    paint: Array
    gloss: float
    sun: Array
    sky: Array
    ground: Array
    trim: Array
    spokes: int
    seed: int


@dataclass(frozen=True)
class Shot:
    """One camera's look at one car: what each of its pixels shows, and which part (0 is none)."""

    world: World
    body: str
    camera: Camera
    spots: Spots
    ids: NDArray[np.uint8]
    size: int

    @property
    def rays(self) -> Array:
        """Viewing directions of the car's pixels, [n, 3]."""
        return self.camera.rays(self.size).reshape(-1, 3)[self.spots.index]


def world(rng: np.random.Generator) -> World:
    """A random car colour on a random day; half of all cars are white, black, silver or grey, as on the road."""
    plain = ([0.88, 0.88, 0.87], [0.03, 0.03, 0.035], [0.55, 0.57, 0.59], [0.22, 0.23, 0.25])
    hue = rng.random(3) ** 1.5 * 0.75 + 0.03
    paint = np.array(plain[rng.integers(4)] if rng.random() < 0.5 else hue, np.float32)
    sun = np.array([rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0.6, 1.4)], np.float32)
    grey = rng.uniform(0.22, 0.5)
    return World(
        paint=paint,
        gloss=float(rng.uniform(0.55, 1.0)),
        sun=sun / np.linalg.norm(sun),
        sky=np.array([0.62, 0.74, 0.9] if rng.random() < 0.6 else [0.8, 0.82, 0.85], np.float32),
        ground=(grey * np.array([1, 0.98, 0.94], np.float32) * rng.uniform(0.85, 1.1, 3)).astype(np.float32),
        trim=np.array([0.05, 0.05, 0.055], np.float32) if rng.random() < 0.4 else paint,
        spokes=int(rng.integers(5, 11)),
        seed=int(rng.integers(2**31)),
    )


def environment(w: World, direction: Array) -> Array:
    """Light that comes from `direction` [..., 3] -> [..., 3]: bright horizon, paler zenith, houses, ground, sun."""
    up = direction[..., 2]
    around = np.arctan2(direction[..., 1], direction[..., 0])
    phase = w.seed % 97
    roofs = 0.1 + 0.07 * np.sign(np.sin(around * 5 + phase)) + 0.05 * np.sign(np.sin(around * 13 + 2 * phase))
    sky = w.sky * (1.12 - 0.45 * np.clip(up, 0, 1))[..., None]
    houses = (0.25 + 0.12 * np.sin(around * 5 + phase))[..., None] * np.array([1, 0.96, 0.9], np.float32)
    light = np.where((up > roofs)[..., None], sky, houses)
    light = np.where((up < 0)[..., None], w.ground * (0.9 + 0.5 * np.clip(up, -1, 0))[..., None], light)
    glare = np.exp((direction @ w.sun - 1) * 60)
    return np.asarray(light + 1.2 * glare[..., None], np.float32)


def background(w: World, camera: Camera, body: str, size: int) -> Array:
    """The street without the car, [size, size, 3], with the car's shadow on it."""
    small = max(size // 2, 64)  # it is out of focus anyway
    shrunk = Camera(camera.axes, camera.position, camera.focal * small / size,
                    (camera.centre[0] * small / size, camera.centre[1] * small / size))  # fmt: skip
    rays = shrunk.rays(small)
    picture = environment(w, rays)
    down = rays[..., 2] < -1e-3
    reach = np.where(down, camera.position[2] / np.maximum(-rays[..., 2], 1e-3), 0)
    spot = camera.position[:2] + rays[..., :2] * reach[..., None]
    rng = np.random.default_rng(w.seed)
    grain = rng.random((512, 512), np.float32)
    texture = 0.0
    for cell, weight in ((0.04, 0.12), (0.5, 0.1), (2.5, 0.1)):
        i, j = np.floor(spot / cell).astype(np.int64).transpose(2, 0, 1) % 512
        texture = texture + weight * (grain[i, j] - 0.5)
    shape = BODIES[body]
    half = np.array([shape.length / 2, shape.half_width])
    outside = np.maximum(np.abs(spot - w.sun[:2] * -0.25 - [half[0], 0]) - half + 0.1, 0)
    shade = np.exp(-((np.hypot(outside[..., 0], outside[..., 1]) / 0.16) ** 2))
    fade = np.exp(-reach / 40)
    ground = w.ground * (1 + texture * fade)[..., None] * (1 - 0.75 * shade)[..., None]
    picture = np.where(down[..., None], ground, picture)
    return _resized(picture, size)


def _resized(picture: Array, size: int) -> Array:
    channels = [Image.fromarray(np.ascontiguousarray(picture[..., c])) for c in range(3)]
    return np.stack([np.asarray(c.resize((size, size), Image.Resampling.BILINEAR)) for c in channels], -1)


_GLASS = ("windshield", "rear_windshield", "front_left_window", "front_right_window", "rear_left_window",
          "rear_right_window", "left_quarter_glass", "right_quarter_glass")  # fmt: skip


def materials(w: World) -> tuple[Array, Array]:
    """Colour [62, 3] and mirror-like share [62] of each part id; 0 is what lies behind the wheels."""
    colour = np.tile(w.paint, (len(PART_IDS) + 1, 1))
    shine = np.full(len(PART_IDS) + 1, 0.16 * w.gloss, np.float32)
    colour[0], shine[0] = (0.015, 0.015, 0.015), 0
    for name, i in PART_IDS.items():
        if name in _GLASS:
            colour[i], shine[i] = (0.04, 0.05, 0.055), 0.42
        elif "headlight" in name or name.endswith("foglight"):
            colour[i], shine[i] = (0.75, 0.77, 0.8), 0.3
        elif "taillight" in name:
            colour[i], shine[i] = (0.55, 0.03, 0.04), 0.3
        elif name.endswith("_tire") or name == "wiper":
            colour[i], shine[i] = (0.03, 0.03, 0.032), 0.02
        elif name.endswith(("_rim", "emblem")):
            colour[i], shine[i] = (0.5, 0.51, 0.53), 0.25
        elif name.endswith("grille") or name == "rear_spoiler":
            colour[i], shine[i] = (0.04, 0.04, 0.045), 0.1
        elif name.endswith("license_plate"):
            colour[i], shine[i] = (0.85, 0.85, 0.8), 0.06
        elif name.endswith(("mirror", "handle", "b_pillar")):
            colour[i] = w.trim
        elif name.endswith("indicator"):
            colour[i], shine[i] = (0.85, 0.4, 0.05), 0.25
    return colour, shine


def shade(shot: Shot, patches: list[Patch]) -> Array:
    """The photo before the camera's flaws: float [size, size, 3] in about 0..1."""
    w, spots, ids = shot.world, shot.spots, shot.ids
    palette, shine = materials(w)
    albedo, mirror = palette[ids].copy(), shine[ids].copy()
    _details(shot, albedo, mirror)
    height = _body_line(shot.body, spots)
    gloss = np.ones(len(ids), np.float32)
    for p in patches:
        k, _, at = p.where(spots, ids)
        alpha = bilinear(p.alpha, at)[:, None]
        albedo[k] = albedo[k] * (1 - alpha) + bilinear(p.colour, at) * alpha
        gloss[k] *= bilinear(p.gloss, at)
        height[k] += bilinear(p.height, at)
    normal = _bent(shot, height)
    ray = shot.rays
    facing = np.clip(-(ray * normal).sum(-1), 0, 1)
    reflected = environment(w, ray + 2 * facing[:, None] * normal)
    fresnel = np.clip(mirror * gloss, 0, 0.9) + 0.5 * np.clip(gloss, 0, 1) * (mirror > 0.05) * (1 - facing) ** 4
    lit = 0.42 + 0.18 * normal[:, 2] + 0.5 * np.clip(normal @ w.sun, 0, 1)
    fresnel = np.clip(fresnel, 0, 1)[:, None]
    colour = albedo * lit[:, None] * (1 - fresnel) + reflected * fresnel
    colour *= _seams(spots.index, ids, shot.size)[:, None]
    picture = background(w, shot.camera, shot.body, shot.size).reshape(-1, 3)
    picture[spots.index] = colour
    return picture.reshape(shot.size, shot.size, 3)


def _details(shot: Shot, albedo: Array, mirror: Array) -> None:
    """Spokes, slats of grilles, ribs of lamps, letters of plates: patterns that need no polygons."""
    w, spots, ids = shot.world, shot.spots, shot.ids
    radius = BODIES[shot.body].radius
    for name, i in PART_IDS.items():
        k = np.flatnonzero(ids == i)
        if len(k) == 0:
            continue
        u, v = spots.u[k], spots.v[k]
        if name.endswith("_rim"):
            r = np.hypot(u, v) / (0.66 * radius)
            gap = (np.cos(np.arctan2(v, u) * w.spokes) > 0.25) & (r > 0.28) & (r < 0.88)
            albedo[k[gap]], mirror[k[gap]] = 0.03, 0
        elif name.endswith("grille"):
            albedo[k] += 0.12 * (v % 0.05 < 0.015)[:, None]
        elif name.endswith(("headlight", "taillight")):
            albedo[k] *= (0.75 + 0.25 * np.sin(u * 90) * np.sin(v * 70))[:, None]
        elif name.endswith("license_plate"):
            letters = (np.abs(u) < 0.22) & (np.sin(u * 140) > 0.1) & (np.sin(u * 31 + w.seed) > -0.7)
            albedo[k[letters & (np.sin(v * 60) > -0.6)]] = 0.2


def _body_line(body: str, spots: Spots) -> Array:
    """A crease along the flanks that every car of this type has: part of the shape, not a fake."""
    height = np.zeros(len(spots.index), np.float32)
    side = spots.surface <= SURFACES.index("right")
    line = BODIES[body].belt - 0.24 + 0.02 * spots.u
    return np.where(side, 0.008 * np.tanh((spots.v - line) / 0.02), height).astype(np.float32)


def _bent(shot: Shot, height: Array) -> Array:
    """Normals tilted by the slope of `height` (metres), measured on the picture and within one part only."""
    spots, camera, size = shot.spots, shot.camera, shot.size
    if not np.ptp(height):
        return spots.normal
    whole = np.zeros((size, size), np.float32)
    part = np.full((size, size), -1, np.int32)
    np.put(whole, spots.index, height)
    np.put(part, spots.index, shot.ids.astype(np.int32) + 100 * spots.surface.astype(np.int32))
    slope = []
    for axis in (1, 0):
        step = np.roll(whole, -1, axis) - np.roll(whole, 1, axis)
        same = (np.roll(part, -1, axis) == part) & (np.roll(part, 1, axis) == part)
        slope.append(np.where(same, step / 2, 0).ravel()[spots.index] * spots.scale)
    tilt = slope[0][:, None] * camera.axes[0] - slope[1][:, None] * camera.axes[1]
    facing = np.clip(np.abs(spots.normal @ camera.axes[2]), 0.3, 1)[:, None]
    normal = spots.normal - np.clip(tilt * facing, -1.2, 1.2)
    return np.asarray(normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6), np.float32)


def _seams(index: NDArray[np.int64], ids: NDArray[np.uint8], size: int) -> Array:
    """Darkening of shut lines: a pixel wide, where two parts meet."""
    whole = np.zeros((size, size), np.uint8)
    np.put(whole, index, ids)
    edge = np.zeros((size, size), np.bool_)
    edge[:, 1:] |= (whole[:, 1:] != whole[:, :-1]) & (whole[:, 1:] > 0) & (whole[:, :-1] > 0)
    edge[1:] |= (whole[1:] != whole[:-1]) & (whole[1:] > 0) & (whole[:-1] > 0)
    return np.where(edge.ravel()[index], np.float32(0.5), np.float32(1))


def photograph(rng: np.random.Generator, light: Array) -> NDArray[np.uint8]:
    """What a phone makes of it: exposure, gamma, a little blur, noise and JPEG. uint8 [size, size, 3]."""
    size = light.shape[0]
    exposed = np.clip(light * rng.uniform(0.8, 1.25), 0, 1) ** np.float32(1 / rng.uniform(1.25, 1.6))
    image = Image.fromarray((exposed * 255).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.45, 0.8)) * max(1, size / 512)))
    pixels = np.asarray(image, np.float32)
    pixels += rng.standard_normal(pixels.shape, np.float32) * np.float32(rng.uniform(1, 4))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=int(rng.integers(72, 96)))
    return np.asarray(Image.open(buffer))
