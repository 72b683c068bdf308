"""Where each part lies on the toy car's surfaces, drawn from large to small; names come from the label file only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from export.data.toycar_geometry import BODIES, CORNERS, Array, Body, arc, half_width, top_line
from export.labels import load_labels

PART_IDS = load_labels().part_ids()
TEXELS = 200  # per metre: finer than a pixel of any view


@dataclass(frozen=True)
class PartMap:
    """Part ids over one surface: uint8 [v, u] from `origin` at TEXELS per metre; 0 is no part (wheel arches)."""

    origin: tuple[float, float]
    ids: NDArray[np.uint8]

    def at(self, u: Array, v: Array) -> NDArray[np.uint8]:
        """Ids at surface coordinates; outside the map the nearest edge counts."""
        i = np.clip(((v - self.origin[1]) * TEXELS).astype(np.int32), 0, self.ids.shape[0] - 1)
        j = np.clip(((u - self.origin[0]) * TEXELS).astype(np.int32), 0, self.ids.shape[1] - 1)
        return self.ids[i, j]


class MapPainter:
    """Draws part polygons in metres; later ones cover earlier ones."""

    def __init__(self, u: tuple[float, float], v: tuple[float, float]) -> None:
        self.origin = (u[0], v[0])
        size = (round((u[1] - u[0]) * TEXELS), round((v[1] - v[0]) * TEXELS))
        self.image = Image.new("L", size)
        self.draw = ImageDraw.Draw(self.image)

    def polygon(self, part: str, points: list[tuple[float, float]]) -> None:
        """Fill a polygon of (u, v) with a part; the empty name takes the part away."""
        pixels = [((u - self.origin[0]) * TEXELS, (v - self.origin[1]) * TEXELS) for u, v in points]
        self.draw.polygon(pixels, fill=PART_IDS[part] if part else 0)

    def box(self, part: str, u0: float, v0: float, u1: float, v1: float) -> None:
        self.polygon(part, [(u0, v0), (u1, v0), (u1, v1), (u0, v1)])

    def disc(self, part: str, u: float, v: float, radius: float) -> None:
        angles = np.linspace(0, 2 * np.pi, 48).tolist()
        self.polygon(part, [(u + radius * float(np.cos(a)), v + radius * float(np.sin(a))) for a in angles])

    def done(self) -> PartMap:
        return PartMap(self.origin, np.asarray(self.image, np.uint8))


@cache
def part_maps(body_name: str) -> dict[str, PartMap]:
    """For each surface of a body type, which part lies where."""
    body = BODIES[body_name]
    return {
        "left": side_parts(body, "left"),
        "right": side_parts(body, "right"),
        "top": top_parts(body),
        "front": end_parts(body, front=True),
        "rear": end_parts(body, front=False),
        **{corner: wheel_parts(body, corner) for corner in CORNERS},
        "mirror_left": mirror_parts("left"),
        "mirror_right": mirror_parts("right"),
    }


def _top(body: Body, x: float) -> float:
    return float(top_line(body, np.array([x], np.float32))[0])


def side_parts(body: Body, side: str) -> PartMap:
    """(x, z) of one side."""
    paint = MapPainter((0, body.length), (0, 1.8))
    length, belt, pillar, end = body.length, body.belt, body.pillar, body.rear_door_end
    cowl, roof_start, roof_end, window_end = (body.profile[i][0] for i in (1, 2, 3, 4))
    door = cowl + 0.12
    paint.box(f"front_{side}_fender", 0, 0, door, 2)
    paint.box(f"front_{side}_door", door, 0, pillar, 2)
    paint.box(f"rear_{side}_door", pillar, 0, end, 2)
    paint.box(f"rear_{side}_quarter_panel", end, 0, length, 2)
    paint.box(f"{side}_a_pillar", cowl, belt, roof_start, 2)
    paint.box("roof", roof_start, belt, roof_end, 2)

    def window(part: str, x0: float, x1: float, lean: float = 0.0) -> None:
        """Glass from the belt to below the roof line between x0 and x1; `lean` moves its rear edge up there."""
        xs = np.linspace(x0, x1 + lean, 12)
        roof = [(float(x), _top(body, float(x)) - 0.08) for x in xs if _top(body, float(x)) - 0.08 > belt]
        paint.polygon(part, [(x1, belt + 0.02), (x0, belt + 0.02), *roof])

    window(f"front_{side}_window", cowl + 0.2, pillar - 0.05)
    window(f"rear_{side}_window", pillar + 0.05, end - 0.04)
    window(f"{side}_quarter_glass", end + 0.03, min(end + 0.45, window_end - 0.2), lean=-0.15)
    paint.polygon(
        f"{side}_b_pillar", [(pillar - 0.05, belt), (pillar + 0.05, belt), (pillar + 0.05, 2), (pillar - 0.05, 2)]
    )
    paint.box("roof", roof_start, _top(body, (roof_start + roof_end) / 2) - 0.07, roof_end, 2)
    front, rear = body.wheels
    room = body.radius * 1.2
    paint.box(f"{side}_rocker_panel", front + room, 0, rear - room, body.sill + 0.1)
    nose, tail = body.profile[0][1], body.profile[-1][1]
    paint.polygon("front_bumper", [(0, 0), (front - room, 0), (front - room, nose * 0.62), (0, nose * 0.68)])
    paint.polygon("rear_bumper", [(rear + room, 0), (length, 0), (length, tail * 0.64), (rear + room, tail * 0.6)])
    paint.polygon(f"{side}_headlight", [(0, nose * 0.72), (0.16, nose * 0.74), (0.4, nose * 1.03), (0, nose * 0.97)])
    paint.polygon(
        f"{side}_taillight",
        [(length, tail * 0.7), (length - 0.16, tail * 0.72), (length - 0.26, tail * 0.94), (length, tail * 0.95)],
    )
    handle = belt - 0.13
    paint.box(f"front_{side}_handle", pillar - 0.3, handle, pillar - 0.1, handle + 0.045)
    paint.box(f"rear_{side}_handle", end - 0.3, handle, end - 0.1, handle + 0.045)
    paint.box(f"{side}_side_indicator", door - 0.22, belt - 0.24, door - 0.12, belt - 0.2)
    if side == "right":
        paint.box("fuel_door", end + 0.18, belt - 0.2, end + 0.35, belt - 0.04)
    for axle in body.wheels:
        paint.disc("", axle, body.radius, body.radius * 1.17)
    return paint.done()


def top_parts(body: Body) -> PartMap:
    """(arc length, y) of hood, windshield, roof, rear window and trunk lid."""
    x, a = arc(body)
    width = half_width(body, x, top_line(body, x))
    paint = MapPainter((0, float(a[-1])), (-1, 1))

    def strip(part: str, x0: float, x1: float, inside: tuple[float, float], outside: tuple[float, float]) -> None:
        """Between x0 and x1 and from `inside` to `outside`, each (share of the half width, metres added)."""
        xs = np.linspace(x0, x1, 9)
        at = np.interp(xs, x, a).tolist()
        half = np.interp(xs, x, width)
        low, high = (half * share + add for share, add in (inside, outside))
        paint.polygon(part, [*zip(at, low.tolist(), strict=True), *zip(at[::-1], high[::-1].tolist(), strict=True)])

    cowl, roof_start, roof_end, window_end = (body.profile[i][0] for i in (1, 2, 3, 4))
    whole = ((-1.0, -0.05), (1.0, 0.05))
    spans = [
        ("hood", 0.0, cowl, "fender"),
        ("windshield", cowl, roof_start, "a_pillar"),
        ("roof", roof_start, roof_end, ""),
        ("rear_windshield", roof_end, window_end, "quarter_panel"),
        ("trunk_lid", window_end, body.length, "quarter_panel"),
    ]
    frames = {"fender": "front_{}_fender", "a_pillar": "{}_a_pillar", "quarter_panel": "rear_{}_quarter_panel"}
    for part, x0, x1, frame in spans:
        strip(part, x0, x1, *whole)
        if frame:
            strip(frames[frame].format("left"), x0, x1, (-1.0, -0.05), (-1.0, 0.08))
            strip(frames[frame].format("right"), x0, x1, (1.0, -0.08), (1.0, 0.05))
    strip("wiper", cowl + 0.02, cowl + 0.05, (-0.7, 0), (0.55, 0))
    if body.length - window_end < 0.5:  # a hatch ends in a spoiler over its window
        strip("rear_spoiler", roof_end - 0.06, roof_end + 0.06, (-0.9, 0), (0.9, 0))
    return paint.done()


def end_parts(body: Body, *, front: bool) -> PartMap:
    """(y, z) of the front or the rear."""
    paint = MapPainter((-1, 1), (0, 1.3))
    end = "front" if front else "rear"
    high = body.profile[0 if front else -1][1]
    paint.box(f"{end}_bumper", -1, 0, 1, high * (0.68 if front else 0.64))
    paint.box("hood" if front else "trunk_lid", -1, high * (0.68 if front else 0.64), 1, 2)
    for side, sign in (("left", -1), ("right", 1)):
        lamp = f"{side}_headlight" if front else f"{side}_taillight"
        inner = 0.44 if front else 0.5
        shape = [(1.0, 0.72), (inner + 0.04, 0.72), (inner, 0.86), (1.0, 0.97)]
        paint.polygon(lamp, [(sign * y, z * high) for y, z in shape])
        fog = [(0.62, 0.42), (0.74, 0.42), (0.74, 0.5), (0.62, 0.5)]
        paint.polygon(f"{end}_{side}_foglight", [(sign * y, z * high) for y, z in fog])
    if front:
        paint.polygon(
            "front_grille", [(y, z * high) for y, z in ((-0.4, 0.7), (0.4, 0.7), (0.44, 0.93), (-0.44, 0.93))]
        )
        paint.polygon(
            "lower_grille", [(y, z * high) for y, z in ((-0.5, 0.36), (0.5, 0.36), (0.42, 0.5), (-0.42, 0.5))]
        )
        paint.box("front_license_plate", -0.26, high * 0.54, 0.26, high * 0.54 + 0.11)
        paint.disc("emblem", 0, high * 0.82, 0.055)
    else:
        paint.box("rear_license_plate", -0.26, high * 0.68, 0.26, high * 0.68 + 0.11)
        paint.disc("emblem", 0, high * 0.9, 0.045)
        paint.box("center_taillight", -0.2, high * 0.985, 0.2, high * 0.985 + 0.03)
    return paint.done()


def wheel_parts(body: Body, corner: str) -> PartMap:
    """(x, z) from the hub."""
    r = body.radius
    paint = MapPainter((-r * 1.4, r * 1.4), (-r * 1.4, r * 1.4))
    paint.box(f"{corner}_tire", -2 * r, -2 * r, 2 * r, 2 * r)
    paint.disc(f"{corner}_rim", 0, 0, 0.66 * r)
    return paint.done()


def mirror_parts(side: str) -> PartMap:
    """One part all over."""
    paint = MapPainter((0, 1), (-0.5, 0.5))
    paint.box(f"{side}_mirror", 0, -1, 1, 1)
    return paint.done()
