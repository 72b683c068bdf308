"""Promises of the size classes."""

from __future__ import annotations

import pytest

from services.common.vision.size import size_class, size_class_pixels


@pytest.mark.parametrize(
    ("area", "expected"),
    [
        (0, "small"),
        (128**2 - 1, "small"),
        (128**2, "medium"),
        (256**2 - 1, "medium"),
        (256**2, "large"),
        (1e9, "large"),
    ],
)
def test_pixel_areas_are_cut_where_the_paper_cuts_them(area: float, expected: str) -> None:
    assert size_class_pixels(area) == expected


def test_a_damage_has_the_same_class_at_every_resolution() -> None:
    # 2.3 % of the photo are 15,732 px of the mean photo, 2.5 % are 17,100, 10 % are 68,400
    assert size_class((0.0, 0.0, 0.23, 0.1)) == "small"
    assert size_class((0.5, 0.5, 0.75, 0.6)) == "medium"
    assert size_class((0.2, 0.2, 0.7, 0.4)) == "large"
