"""Promises of the arithmetic on a graph's logits."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from services.common.vision.logits import double


@pytest.mark.parametrize("shape", [(2, 5, 7), (1, 1, 1), (3, 2, 1)])
def test_maps_are_doubled_linearly_between_cells_and_repeat_their_edges(shape: tuple[int, int, int]) -> None:
    maps = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = _between(_between(maps).swapaxes(1, 2)).swapaxes(1, 2)
    np.testing.assert_allclose(double(maps), expected, atol=1e-6)


def test_no_map_is_doubled_to_none() -> None:
    assert double(np.zeros((0, 4, 5), np.float32)).shape == (0, 8, 10)


def _between(maps: NDArray[np.floating]) -> NDArray[np.float64]:
    """Lines [..., n] read at the centres of cells half as wide -> [..., 2n]."""
    n = maps.shape[-1]
    at = (np.arange(2 * n) + 0.5) / 2 - 0.5
    return np.array([[np.interp(at, np.arange(n), line) for line in each] for each in maps])
