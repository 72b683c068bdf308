"""Both renderers of fake damages touch a photo only where they say, and are not one renderer twice."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from export.data import fakes, fakes_other
from export.data.toycar import render
from export.labels import load_labels

RENDERERS = [fakes, fakes_other]
LABELS = list(load_labels().fake_ids())


@pytest.fixture(scope="module")
def door() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    scene = render(0, size=320, view="left", damages=[], fakes=[])
    return scene.pixels, scene.parts["front_left_door"]


@pytest.mark.parametrize("renderer", RENDERERS)
def test_both_draw_all_seven(renderer: ModuleType) -> None:
    assert set(renderer.FAKES) == set(LABELS)


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("label", LABELS)
def test_nothing_changes_outside_the_mask_and_the_mask_lies_in_the_region(
    renderer: ModuleType, label: str, door: tuple[NDArray[np.uint8], NDArray[np.bool_]]
) -> None:
    pixels, region = door
    before = pixels.copy()
    for seed in range(4):
        new, mask = renderer.add_fake(np.random.default_rng(seed), pixels, region, label)
        assert new.shape == pixels.shape
        assert new.dtype == np.uint8
        assert mask.any()
        assert not (mask & ~region).any()
        assert not (new != pixels)[~mask].any()
        change = np.abs(new.astype(np.int32) - pixels).max(-1)[mask]
        assert (change > 2).mean() > 0.3  # what is labelled can be seen
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("renderer", RENDERERS)
def test_the_same_seed_draws_the_same(renderer: ModuleType, door: tuple[NDArray[np.uint8], NDArray[np.bool_]]) -> None:
    a, mask_a = renderer.add_fake(np.random.default_rng(5), *door, "fakemud")
    b, mask_b = renderer.add_fake(np.random.default_rng(5), *door, "fakemud")
    assert np.array_equal(a, b)
    assert np.array_equal(mask_a, mask_b)


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("label", LABELS)
def test_tiny_and_thin_regions_do_no_harm(renderer: ModuleType, label: str) -> None:
    pixels = np.full((40, 60, 3), 128, np.uint8)
    for rows, columns in ((slice(3, 4), slice(5, 6)), (slice(39, 40), slice(0, 60)), (slice(0, 40), slice(59, 60))):
        region = np.zeros((40, 60), np.bool_)
        region[rows, columns] = True
        new, mask = renderer.add_fake(np.random.default_rng(0), pixels, region, label)
        assert not (mask & ~region).any()
        assert not (new != pixels)[~mask].any()


@pytest.mark.parametrize("renderer", RENDERERS)
def test_wrong_requests_are_refused(renderer: ModuleType) -> None:
    pixels, rng = np.zeros((8, 8, 3), np.uint8), np.random.default_rng(0)
    with pytest.raises(ValueError, match="cannot draw 'dent'"):
        renderer.add_fake(rng, pixels, np.ones((8, 8), np.bool_), "dent")
    with pytest.raises(ValueError, match="region"):
        renderer.add_fake(rng, pixels, np.zeros((8, 8), np.bool_), "fakemud")
    with pytest.raises(ValueError, match="region"):
        renderer.add_fake(rng, pixels, np.ones((4, 8), np.bool_), "fakemud")


def test_the_two_renderers_share_no_code() -> None:
    ours = {vars(fakes)[n] for n, f in vars(fakes).items() if getattr(f, "__module__", "") == fakes.__name__}
    theirs = {f for f in vars(fakes_other).values() if getattr(f, "__module__", "").startswith("export.data.fakes")}
    assert not ours & theirs
