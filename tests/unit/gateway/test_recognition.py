"""The gateway knows its own pictures again, and takes nothing else for one. All numbers: `benchmarks.recognition`."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.recognition import TRANSFORMS, filled
from export.data.toycar import render
from services.gateway.generated.registry import Registry, dump
from services.gateway.records.generations import GenerationStore


@pytest.fixture(scope="module")
def known() -> tuple[Registry, list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]]:
    return filled(6, 192)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_our_own_picture_is_known_whatever_was_done_to_it(
    known: tuple[Registry, list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]], name: str
) -> None:
    registry, made = known
    rng = np.random.default_rng(0)
    assert [registry.find(TRANSFORMS[name](pixels, rng)) for pixels in made[:3]] == ["0", "1", "2"]


def test_another_picture_of_the_same_kind_and_featureless_photos_are_not_ours(
    known: tuple[Registry, list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]],
) -> None:
    registry, _ = known
    others = [render(seed, size=192).pixels for seed in range(3)]
    others += [np.full((100, 150, 3), shade, np.uint8) for shade in (0, 128, 255)]
    others += [np.full((1, 1, 3), 9, np.uint8), np.full((1, 900, 3), 9, np.uint8)]
    assert [registry.find(pixels) for pixels in others] == [None] * len(others)


def test_the_photo_that_was_painted_into_stays_a_photo() -> None:
    clean = render(7, size=256, damages=[], fakes=[]).pixels
    mask = np.zeros(clean.shape[:2], bool)
    mask[110:170, 90:170] = True
    painted = clean.copy()
    painted[mask] = np.random.default_rng(0).integers(0, 255, (int(mask.sum()), 3), np.uint8) // 2 + clean[mask] // 2
    registry = Registry(GenerationStore.__new__(GenerationStore))
    registry.add("painted", dump(painted, clean, mask)[1])
    rng = np.random.default_rng(0)
    for name, change in TRANSFORMS.items():
        assert registry.find(change(painted, rng)) == "painted", name
        assert registry.find(change(clean, rng)) is None, name
