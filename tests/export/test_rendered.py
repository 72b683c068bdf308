"""Fakes rendered onto training photos: labelled as fakes, apart from real damages, and never too eager a threshold."""

from __future__ import annotations

import numpy as np
import pytest

from export.albert.calibrate import fake_threshold
from export.albert.data import MASK_SIDE, Sample
from export.albert.rendered import faked, labelled_parts, with_fakes
from export.data.fakes import FAKES
from export.data.toycar import render

RNG = np.random.default_rng


def toy_sample() -> Sample:
    """A rendered car whose left half is one part, with a damage in the middle of that half."""
    pixels = render(0, size=MASK_SIDE, view="left", damages=[], fakes=[]).pixels
    parts = np.zeros((MASK_SIDE, MASK_SIDE), np.uint8)
    parts[60:260, 20:160] = 1
    damage = np.zeros((MASK_SIDE, MASK_SIDE), np.bool_)
    damage[120:180, 60:120] = True
    return Sample(pixels, [damage], [("dent",)], parts)


def test_rendered_fakes_join_the_labels_and_keep_away_from_real_damage() -> None:
    sample = toy_sample()
    drawn = [version for seed in range(6) if (version := faked(sample, labelled_parts(sample), RNG(seed)))]
    assert drawn
    for version in drawn:
        assert version.names[0] == ("dent",)
        for mask, (name,) in zip(version.masks[1:], version.names[1:], strict=True):
            assert name in FAKES
            assert not (mask & sample.masks[0]).any()
            assert mask.sum() == (mask & (sample.parts == 1)).sum()
        changed = (version.pixels != sample.pixels).any(-1)
        assert changed.any()
        assert not changed[120:180, 60:120].any()


def test_the_first_version_of_a_photo_stays_as_it_was() -> None:
    sample = toy_sample()
    before = sample.pixels.copy()
    assert with_fakes([sample], labelled_parts, share=1.0)
    assert (sample.pixels == before).all()
    assert len(sample.masks) == 1


def test_a_photo_without_known_parts_is_left_alone() -> None:
    sample = toy_sample()
    sample.parts = None
    assert labelled_parts(sample) == []
    assert with_fakes([sample], labelled_parts, share=1.0) == []


@pytest.mark.parametrize("skew", [0.0, 0.6])
def test_at_most_one_real_damage_in_a_hundred_would_be_called_a_fake(skew: float) -> None:
    real = np.clip(RNG(1).beta(1, 6, 1000) + skew, 0, 1)
    threshold = fake_threshold(real)
    assert threshold >= 0.5
    assert (real >= threshold).mean() <= 0.01
