"""Promises of `cut_crops`: the right pixels, exact at the photo's border, and clear words about impossible boxes."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.vision.crops import cut_crops
from tests.unit.vision.pictures import smooth

MEAN = (124, 116, 104)
PHOTO = smooth(60, 80)
WHITE = np.full((60, 80, 3), 255, np.uint8)


def box(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    """A box given in pixels of the 80 x 60 photo."""
    return [x0 / 80, y0 / 60, x1 / 80, y1 / 60]


def test_a_square_inside_the_photo_is_its_pixels() -> None:
    assert (cut_crops(PHOTO, [box(10, 20, 42, 52)], size=32, resize="pad", context=0)[0] == PHOTO[20:52, 10:42]).all()
    assert (cut_crops(PHOTO, [box(10, 20, 42, 52)], size=32, resize="stretch")[0] == PHOTO[20:52, 10:42]).all()


def test_the_square_is_as_long_as_the_longer_side_in_pixels() -> None:
    crop = cut_crops(PHOTO, [box(20, 30, 52, 38)], size=32, resize="pad", context=0)[0]
    assert (crop == PHOTO[18:50, 20:52]).all()


def test_context_is_added_on_every_side() -> None:
    crop = cut_crops(PHOTO, [box(24, 24, 40, 40)], size=32, resize="pad", context=0.5)[0]
    assert (crop == PHOTO[16:48, 16:48]).all()


def test_what_lies_outside_of_the_photo_is_the_mean_colour() -> None:
    corners = {
        (0, 0, 16, 16): (slice(8, 32), slice(8, 32), slice(0, 24), slice(0, 24)),
        (64, 44, 80, 60): (slice(0, 24), slice(0, 24), slice(36, 60), slice(56, 80)),
    }
    for corner, (rows, columns, photo_rows, photo_columns) in corners.items():
        crop = cut_crops(PHOTO, [box(*corner)], size=32, resize="pad", context=0.5)[0]
        expected = np.full((32, 32, 3), MEAN, np.uint8)
        expected[rows, columns] = PHOTO[photo_rows, photo_columns]
        assert (crop == expected).all()


def test_a_crop_of_the_whole_photo_has_bars_above_and_below() -> None:
    crop = cut_crops(WHITE, [[0, 0, 1, 1]], size=80, resize="pad")[0]
    assert (crop[:10] == MEAN).all() and (crop[70:] == MEAN).all() and (crop[10:70] == 255).all()


def test_no_pixel_beside_the_box_leaks_into_a_stretched_crop() -> None:
    photo = np.zeros((60, 80, 3), np.uint8)
    photo[20:30, 11:50] = (200, 30, 30)
    for size in (7, 64, 224):
        assert (cut_crops(photo, [box(11, 20, 50, 30)], size=size, resize="stretch") == (200, 30, 30)).all()


def test_crops_come_in_the_order_of_their_boxes() -> None:
    boxes = [box(0, 0, 8, 8), box(40, 30, 48, 38)]
    both = cut_crops(PHOTO, boxes, size=8, resize="pad")
    for i in range(2):
        assert (both[i] == cut_crops(PHOTO, boxes[i : i + 1], size=8, resize="pad")[0]).all()


def test_no_boxes_give_no_crops() -> None:
    assert cut_crops(PHOTO, [], size=24, resize="pad").shape == (0, 24, 24, 3)
    assert cut_crops(PHOTO, np.zeros((0, 4)), size=24, resize="stretch").shape == (0, 24, 24, 3)


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ([0.2, 0.2, 0.2, 0.6], "empty"),
        ([0.6, 0.2, 0.4, 0.6], "reversed"),
        ([-0.1, 0.2, 0.4, 0.6], "outside"),
        ([0.2, 0.2, 0.4, 1.1], "outside"),
        ([20, 30, 40, 50], "outside"),
        ([math.nan, 0.2, 0.4, 0.6], "outside"),
        ([0.1, 0.2, math.inf, 0.6], "outside"),
    ],
)
def test_an_impossible_box_is_named(bad: list[float], word: str) -> None:
    with pytest.raises(ValueError, match=rf"box 1 .*{word}"):
        cut_crops(PHOTO, [[0.1, 0.1, 0.2, 0.2], bad], size=8, resize="pad")


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match="resize"):
        cut_crops(PHOTO, [[0, 0, 1, 1]], size=8, resize="squash")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="context"):
        cut_crops(PHOTO, [[0, 0, 1, 1]], size=8, resize="pad", context=-0.1)


def test_a_box_thinner_than_a_pixel_is_one_pixel() -> None:
    thin = [0.5, 0.5, 0.5 + 1e-6, 0.5 + 1e-6]
    assert (cut_crops(WHITE, [thin], size=8, resize="pad") == 255).all()
    assert (cut_crops(WHITE, [thin], size=8, resize="stretch") == 255).all()


@given(
    corners=st.tuples(*[st.floats(0, 1) for _ in range(4)]),
    context=st.floats(0, 2),
    size=st.integers(1, 40),
    mode=st.sampled_from(["pad", "stretch"]),
    shape=st.tuples(st.integers(1, 50), st.integers(1, 50)),
)
@settings(max_examples=150, deadline=None)
def test_every_proper_box_of_every_photo_gives_a_crop(
    corners: tuple[float, ...], context: float, size: int, mode: Literal["pad", "stretch"], shape: tuple[int, int]
) -> None:
    (x0, x1), (y0, y1) = sorted(corners[:2]), sorted(corners[2:])
    if x0 == x1 or y0 == y1:
        return
    white = np.full((*shape, 3), 255, np.uint8)
    crop = cut_crops(white, [[x0, y0, x1, y1]], size=size, resize=mode, context=context)
    assert crop.shape == (1, size, size, 3)
    # a white photo on the mean colour: everything is a mix of these two
    assert (crop >= np.array(MEAN)).all()
