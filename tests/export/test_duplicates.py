"""Near-copies across splits are found, and different photos are not taken for copies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from export.data.coco import CocoSet, Photo
from export.data.duplicates import across
from export.data.toycar import render


def _set(folder: Path, name: str, pictures: Sequence[Image.Image]) -> CocoSet:
    photos = []
    for i, picture in enumerate(pictures):
        path = folder / f"{name}{i}.jpg"
        picture.save(path, quality=80)
        photos.append(Photo(i, path, *picture.size))
    return CocoSet(folder / f"{name}.json", (), tuple(photos))


def test_copies_are_found_after_resizing_recompression_and_mirroring(tmp_path: Path) -> None:
    cars = [Image.fromarray(render(seed, size=192).pixels) for seed in range(6)]
    train = _set(tmp_path, "train", cars[:5])
    flipped = cars[2].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    brighter = Image.fromarray(np.clip(np.asarray(cars[1]) * 1.15, 0, 255).astype(np.uint8))
    test = _set(tmp_path, "test", [cars[0].resize((120, 120)), brighter, flipped, cars[5]])
    pairs = across([train, test])
    assert {(p.a.id, p.b.id, p.mirrored) for p in pairs} == {(0, 0, False), (1, 1, False), (2, 2, True)}
    assert [p.distance for p in pairs] == sorted(p.distance for p in pairs)


def test_copies_inside_one_split_are_not_reported(tmp_path: Path) -> None:
    car = Image.fromarray(render(0, size=128).pixels)
    assert across([_set(tmp_path, "train", [car, car])]) == []
