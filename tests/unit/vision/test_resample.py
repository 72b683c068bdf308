"""Promises of resizing, on which training and serving agree."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from services.common.vision.photo import downscale, resize
from services.common.vision.resample import band
from tests.unit.vision.pictures import quarters, smooth


def test_nothing_is_copied_where_nothing_changes() -> None:
    picture = smooth(30, 40)
    assert downscale(picture, 40) is picture
    assert resize(picture, 30, 40) is picture


def test_the_mean_stays_when_fine_stripes_shrink() -> None:
    stripes = np.zeros((700, 900, 3), np.uint8)
    stripes[:, ::2] = 200  # without antialiasing this turns into beats of black and bright
    small = downscale(stripes, 130)
    assert small.shape == (101, 130, 3)
    assert np.abs(small.astype(int) - 100).max() <= 8


def test_stretching_keeps_every_thing_at_its_normalised_place() -> None:
    square = resize(quarters(64, 96), 50, 50)
    assert square.shape == (50, 50, 3)
    for y, x in ((0.2, 0.2), (0.2, 0.8), (0.8, 0.2), (0.8, 0.8)):
        assert (square[int(50 * y), int(50 * x)] == quarters(64, 96)[int(64 * y), int(96 * x)]).all()


def test_the_result_may_be_written_to() -> None:
    assert downscale(smooth(30, 40), 20).flags.writeable
    assert resize(smooth(30, 40), 7, 9).flags.writeable


@pytest.mark.parametrize("shape", [(1512, 2016), (2016, 1512), (1152, 2048), (960, 1280)])
def test_halves_together_are_the_resized_picture_to_the_last_bit(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    halves = [band(picture, 448, 448, rows) for rows in ((0, 224), (224, 448))]
    assert (np.concatenate(halves) == resize(picture, 448, 448)).all()


@pytest.mark.parametrize("shape", [(1512, 2016), (487, 900), (60, 40)])
def test_bands_of_any_height_differ_by_rounding_at_most(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    bands = [band(picture, 100, 130, rows) for rows in pairwise((0, 7, 50, 51, 100))]
    assert np.abs(np.concatenate(bands).astype(int) - resize(picture, 100, 130)).max() <= 1
