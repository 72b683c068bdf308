"""Masks enlarged run by run are the masks that enlarging cell by cell gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from services.common.vision import masks
from services.common.vision.enlarge import enlarged

GRIDS = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@given(GRIDS, st.integers(0, 30), st.integers(0, 30))
def test_every_cell_is_that_of_the_nearest_in_the_small_grid(grid: np.ndarray, more_h: int, more_w: int) -> None:
    height, width = grid.shape[0] + more_h, grid.shape[1] + more_w
    rows, columns = (np.arange(new) * old // new for new, old in zip((height, width), grid.shape, strict=True))
    expected = grid[rows][:, columns]
    counts, area = enlarged(*masks.encode(grid), height, width)
    assert np.array_equal(masks.decode((height, width), counts), expected)
    assert area == expected.sum()


@pytest.mark.parametrize("value", [False, True])
def test_an_empty_and_a_full_mask_stay_so(value: bool) -> None:
    counts, area = enlarged(*masks.encode(np.full((4, 4), value)), 300, 400)
    assert area == (300 * 400 if value else 0)
    assert masks.decode((300, 400), counts).all() == value
