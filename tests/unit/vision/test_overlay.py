"""Promises of overlays: what was found is seen, can be read, and nothing but the picture leaves."""

from __future__ import annotations

import io
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from services.common.vision.labels import place
from services.common.vision.overlay import Kind, OverlayItem, draw_overlay
from tests.unit.vision.pictures import smooth

GREY = np.full((300, 400, 3), 128, np.uint8)
MIDDLE = np.zeros((24, 32), bool)
MIDDLE[8:16, 8:24] = True
BOX = (0.25, 1 / 3, 0.75, 2 / 3)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    assert image.format == "WEBP"
    return image


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1536, 2048), (1280, 960)),
        ((300, 400), (640, 480)),
        ((1000, 800), (800, 1000)),
        ((1, 1), (640, 640)),
        ((4, 2000), (1280, 3)),
    ],
)
def test_overlays_are_bounded_and_small_photos_are_enlarged(shape: tuple[int, int], size: tuple[int, int]) -> None:
    items = [OverlayItem(BOX, "dent 0.87", "damage", MIDDLE), OverlayItem(BOX, "door", "part")]
    assert opened(draw_overlay(smooth(*shape), items)).size == size
    assert max(opened(draw_overlay(smooth(*shape), items, max_side=200)).size) <= 200


def test_no_metadata_leaves() -> None:
    image = opened(draw_overlay(GREY, [OverlayItem(BOX, "dent", "damage", MIDDLE)]))
    assert not image.getexif() and "icc_profile" not in image.info and "xmp" not in image.info


def test_without_findings_it_is_the_photo() -> None:
    pixels = np.asarray(opened(draw_overlay(GREY, [])))
    assert np.abs(pixels.astype(int) - 128).max() <= 3


@pytest.mark.parametrize("kind", ["damage", "fake", "part", "review"])
def test_a_mask_tints_its_cells_and_leaves_the_rest(kind: Kind) -> None:
    pixels = np.asarray(opened(draw_overlay(GREY, [OverlayItem(BOX, "", kind, MIDDLE)]))).astype(int)
    inside, outside = pixels[200:280, 220:420], pixels[:120]
    assert np.abs(inside - 128).max(-1).min() >= 5
    assert np.abs(outside - 128).max() <= 4
    edge = pixels[160 - 3 : 160 + 4, 200:440]  # the outline is stronger than the tint
    assert np.abs(edge - 128).max() > np.abs(inside - 128).max() + 20


def test_a_hole_in_a_mask_stays_clear() -> None:
    holed = np.zeros((60, 80), bool)
    holed[10:50, 10:70] = True
    holed[20:40, 25:55] = False
    pixels = np.asarray(opened(draw_overlay(GREY, [OverlayItem(BOX, "", "damage", holed)]))).astype(int)
    assert np.abs(pixels[200:280, 260:380] - 128).max() <= 4


def test_kinds_can_be_told_apart() -> None:
    kinds: tuple[Kind, ...] = ("damage", "fake", "part", "review")
    means = [
        np.asarray(opened(draw_overlay(GREY, [OverlayItem(BOX, "", kind, MIDDLE)])))[200:280, 220:420].mean((0, 1))
        for kind in kinds
    ]
    assert min(np.abs(a - b).max() for a, b in combinations(means, 2)) > 10


@pytest.mark.parametrize("label", ["x" * 500, "two\nlines\tand more", "\x00\x1b[31m", "Beule – Tür 0,87", "凹み", " "])
def test_any_label_can_be_drawn(label: str) -> None:
    opened(draw_overlay(GREY, [OverlayItem((0.9, 0.9, 1.0, 1.0), label, "damage", MIDDLE)]))


boxes = st.tuples(st.floats(0, 300), st.floats(0, 150), st.floats(1, 100), st.floats(1, 50))


@given(st.lists(boxes, max_size=8))
@settings(deadline=None)
def test_labels_stay_in_the_picture_and_beside_each_other(corners: list[tuple[float, float, float, float]]) -> None:
    plates = place([(x, y, x + w, y + h) for x, y, w, h in corners], [(60.0, 12.0)] * len(corners), (400, 200))
    for x0, y0, x1, y1 in plates:
        assert 0 <= x0 < x1 <= 400 and 0 <= y0 < y1 <= 200
    for a, b in combinations(plates, 2):  # eight labels of 60 x 12 always find room on 400 x 200
        assert min(a[2], b[2]) - max(a[0], b[0]) < 1e-6 or min(a[3], b[3]) - max(a[1], b[1]) < 1e-6


def test_a_label_stands_above_its_box_where_there_is_room_and_below_at_the_top() -> None:
    above, below = place([(50, 60, 90, 80), (200, 0, 240, 30)], [(30, 10), (30, 10)], (400, 200))
    assert above == (50, 50, 80, 60)
    assert below == (200, 30, 230, 40)
