"""Where labels stand: beside their boxes, inside the picture and, where there is room, not on each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Rect = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels


def place(boxes: Sequence[Rect], sizes: Sequence[tuple[float, float]], picture: tuple[int, int]) -> list[Rect]:
    """A plate of each (width, height) for each box in a picture of (width, height); the first in line choose first."""
    placed: list[Rect] = []
    for box, size in zip(boxes, sizes, strict=True):
        choices = [_inside(at, size, picture) for at in _choices(box, size, picture)]
        # min keeps the first of equals: the nearest place that covers nothing, else the one that covers least
        placed.append(min(choices, key=lambda plate: sum(_common(plate, other) for other in placed)))
    return placed


def _choices(box: Rect, size: tuple[float, float], picture: tuple[int, int]) -> Iterator[tuple[float, float]]:
    """Top left corners to try, best first: above the box, below it, in its corners, then lines up and down."""
    (x0, y0, x1, y1), (width, height) = box, size
    if y0 >= height:
        yield x0, y0 - height
        yield x1 - width, y0 - height
    if y1 + height <= picture[1]:
        yield x0, y1
        yield x1 - width, y1
    yield x0, y0
    yield x1 - width, y1 - height
    for line in range(1, 1 + int(picture[1] / height)):
        yield x0, y0 - line * height
        yield x0, y0 + line * height


def _inside(at: tuple[float, float], size: tuple[float, float], picture: tuple[int, int]) -> Rect:
    x, y = (max(0.0, min(a, side - s)) for a, s, side in zip(at, size, picture, strict=True))
    return x, y, x + size[0], y + size[1]


def _common(a: Rect, b: Rect) -> float:
    """Area that two rectangles share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
