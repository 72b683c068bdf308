"""The toy car is the same for the same seed, and its masks are what was drawn."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from export.data import toycar
from export.data.coco import read_coco
from export.data.toycar import Scene, render, render_claim
from export.data.toycar_camera import AZIMUTHS
from export.data.toycar_damage import DAMAGES
from export.data.toycar_fakes import FAKES
from export.labels import load_labels

LABELS = load_labels()
SIZE = 160


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [render(seed, size=SIZE) for seed in range(24)]


def test_the_same_seed_gives_the_same_photo_and_another_seed_another(scenes: list[Scene]) -> None:
    again = render(3, size=SIZE)
    assert np.array_equal(again.pixels, scenes[3].pixels)
    assert [i.label for i in again.instances] == [i.label for i in scenes[3].instances]
    assert all(np.array_equal(again.parts[name], mask) for name, mask in scenes[3].parts.items())
    assert not np.array_equal(scenes[4].pixels, scenes[3].pixels)


def test_part_masks_exclude_each_other_and_are_named_from_the_label_file(scenes: list[Scene]) -> None:
    ids = LABELS.part_ids()
    for scene in scenes:
        assert scene.pixels.shape == (SIZE, SIZE, 3)
        assert np.sum(list(scene.parts.values()), axis=0).max() == 1
        assert set(scene.parts) <= set(ids)
        assert all(mask.any() for mask in scene.parts.values())


def test_every_damage_lies_on_the_part_it_names_where_it_can_occur(scenes: list[Scene]) -> None:
    seen = [i for scene in scenes for i in scene.instances if i.kind == "damage"]
    assert len(seen) > 10
    assert all(LABELS.vocabulary.possible(i.label, i.part) for i in seen)
    for scene in scenes:
        for i in scene.instances:
            if i.kind == "damage":
                assert not (i.mask & ~scene.parts[i.part]).any()


def test_what_really_changed_lies_inside_the_outline(scenes: list[Scene]) -> None:
    for i in (i for scene in scenes for i in scene.instances):
        assert i.mask.any()
        assert not (i.strict_mask & ~i.mask).any()


@pytest.mark.parametrize(("kind", "names"), [("damage", [*DAMAGES]), ("fake", [*FAKES])])
def test_every_damage_and_fake_can_be_asked_for(kind: str, names: list[str]) -> None:
    vocabulary = {"damage": LABELS.damage_ids(), "fake": LABELS.fake_ids()}[kind]
    assert set(names) <= set(vocabulary)
    views = ("left", "front_left", "front", "rear_left")
    for name in names:
        damages, fakes = ([name], []) if kind == "damage" else ([], [name])
        scenes = [render(s, size=SIZE, view=v, damages=damages, fakes=fakes) for s, v in enumerate(views)]
        found = [i for scene in scenes for i in scene.instances]
        assert found, name
        assert {(i.kind, i.label) for i in found} == {(kind, name)}


def test_all_seven_fakes_can_be_rendered() -> None:
    assert set(FAKES) == set(LABELS.fake_ids())


@pytest.mark.parametrize("label", ["dent", "scratch", "torn"])
def test_a_damage_is_visible_where_its_mask_is(label: str) -> None:
    for seed in range(4):
        clean = render(seed, size=SIZE, view="front_left", damages=[], fakes=[])
        damaged = render(seed, size=SIZE, view="front_left", damages=[label], fakes=[])
        change = np.abs(clean.pixels.astype(np.int32) - damaged.pixels).mean(-1)
        (instance,) = damaged.instances
        far = ~_grown(instance.mask, 6)
        assert change[instance.mask].mean() > 3 * change[far].mean()


def _grown(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    shifts = [np.roll(mask, (i, j), (0, 1)) for i in range(-by, by + 1) for j in range(-by, by + 1)]
    return np.asarray(np.any(shifts, axis=0))


def test_each_side_view_shows_its_own_side() -> None:
    for view, parts in ((v, render(1, size=SIZE, view=v).parts) for v in AZIMUTHS):
        wanted, hidden = ("left", "right") if "left" in view else ("right", "left")
        if view not in ("front", "rear"):
            assert f"front_{wanted}_door" in parts
            assert f"front_{hidden}_door" not in parts
    assert "front_bumper" in render(1, size=SIZE, view="front").parts
    assert "rear_bumper" in render(1, size=SIZE, view="rear").parts


def test_a_claim_shows_one_car_with_the_same_damages_from_several_sides() -> None:
    views = render_claim(5, 3, size=SIZE, damages=["dent", "scratch", "torn"], fakes=[])
    assert len({v.view for v in views}) == 3
    first = {(i.label, i.part) for i in views[0].instances}
    assert first
    assert all({(i.label, i.part) for i in v.instances} <= first for v in views)
    assert any(v.instances for v in views[1:])


def test_names_the_renderer_does_not_know_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot show gash"):
        render(0, size=SIZE, damages=["gash"])
    with pytest.raises(ValueError, match="cannot show above"):
        render(0, size=SIZE, view="above")


def test_the_command_writes_a_set_that_the_reader_accepts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["toycar", "--out", str(tmp_path), "--count", "2", "--size", "96"])
    toycar.main()
    names = [*LABELS.damage_ids(), *LABELS.fake_ids(), *LABELS.part_ids()]
    photos = read_coco(tmp_path / "annotations.json", categories=names).photos
    assert [p.source for p in photos] == ["toycar", "toycar"]
    scene = render(1, size=96)
    read = {a.category: photos[1].mask(a, 96, 96) for a in photos[1].annotations}
    assert all(np.array_equal(read[name], mask) for name, mask in scene.parts.items())
