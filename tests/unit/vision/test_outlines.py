"""Promises of polygons: they draw the mask again, with few points, inside the photo."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from services.common.vision.masks import polygon

Bools = NDArray[np.bool_]


def ellipse(x: float, y: float, a: float, b: float) -> Bools:
    """An ellipse in normalised coordinates."""
    height, width = 96, 128
    rows, columns = np.mgrid[:height, :width]
    across, down = ((columns + 0.5) / width - x) / a, ((rows + 0.5) / height - y) / b
    return np.asarray(across**2 + down**2 < 1)


def drawn(polygons: list[list[tuple[float, float]]], shape: tuple[int, ...]) -> Bools:
    """The polygons as a mask again, drawn at eight times the size."""
    height, width = (8 * side for side in shape)
    picture = Image.new("1", (width, height))
    for ring in polygons:
        ImageDraw.Draw(picture).polygon([(x * width - 0.5, y * height - 0.5) for x, y in ring], fill=1)
    large = np.asarray(picture).reshape(shape[0], 8, shape[1], 8)
    return np.asarray(large.mean((1, 3)) > 0.5)


def iou(a: Bools, b: Bools) -> float:
    return float((a & b).sum() / (a | b).sum())


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 0.5), st.floats(0.1, 0.5))
@settings(max_examples=40, deadline=None)
def test_the_polygon_of_a_blob_draws_the_blob(x: float, y: float, a: float, b: float) -> None:
    mask = ellipse(x, y, a, b)
    rings = polygon(mask)
    assert len(rings) == 1
    assert len(rings[0]) < 60
    corners = np.array([*rings[0], rings[0][0]]) * mask.shape[::-1]
    around = np.linalg.norm(np.diff(corners, axis=0), axis=1).sum()
    assert (drawn(rings, mask.shape) ^ mask).sum() <= around  # astray by a cell at most
    assert all(0 <= v <= 1 for point in rings[0] for v in point)


def test_without_tolerance_the_border_is_followed() -> None:
    mask = ellipse(0.4, 0.5, 0.3, 0.3)
    assert iou(drawn(polygon(mask, 0.1), mask.shape), mask) > 0.99


def test_a_rectangle_has_its_place_and_few_points() -> None:
    mask = np.zeros((40, 80), bool)
    mask[10:30, 20:60] = True
    (ring,) = polygon(mask)
    assert len(ring) <= 8
    xs, ys = zip(*ring, strict=True)
    assert (min(xs), max(xs), min(ys), max(ys)) == (0.25, 0.75, 0.25, 0.75)


def test_a_full_mask_is_the_whole_photo_and_an_empty_one_nothing() -> None:
    (ring,) = polygon(np.ones((10, 10), bool))
    xs, ys = zip(*ring, strict=True)
    assert (min(xs), max(xs), min(ys), max(ys)) == (0, 1, 0, 1)
    assert polygon(np.zeros((10, 10), bool)) == []


def test_the_largest_ring_comes_first_and_holes_are_left_out() -> None:
    mask = ellipse(0.2, 0.5, 0.1, 0.1) | (ellipse(0.7, 0.5, 0.25, 0.4) & ~ellipse(0.7, 0.5, 0.1, 0.2))
    rings = polygon(mask)
    assert len(rings) == 2
    assert np.mean([x for x, _ in rings[0]]) > 0.5 > np.mean([x for x, _ in rings[1]])


def test_a_single_cell_and_a_diagonal_scratch_keep_a_ring() -> None:
    cell = np.zeros((20, 20), bool)
    cell[3, 4] = True
    (ring,) = polygon(cell)
    assert len(ring) >= 3
    assert len(polygon(np.eye(30, dtype=bool))) == 1


def test_points_are_bounded_however_ragged_the_mask() -> None:
    for seed, size in ((0, 40), (1, 120), (2, 200)):
        noise = np.random.default_rng(seed).random((size, size)) < 0.3
        assert 0 < sum(map(len, polygon(noise))) <= 200
        assert 0 < sum(map(len, polygon(~noise, tolerance=0.2))) <= 200
