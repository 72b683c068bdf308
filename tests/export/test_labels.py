"""The label file keeps its promises, and a wrong one is refused with the entry's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from export.labels import DEFAULT_PATH, LabelError, load_labels

LABELS = load_labels()
VOCABULARY = LABELS.vocabulary

# Two packs work together only while this stands: change it together with new packs, never alone.
NAMES_HASH = "618b249622bc45c5dad5d5f3c6cd6914ded817a1fc361592441eb4154b75fbf2"


def test_the_paper_ids_hold() -> None:
    assert (len(VOCABULARY.damages), len(VOCABULARY.fakes), len(VOCABULARY.parts)) == (26, 7, 61)
    assert LABELS.damage_ids()["dent"] == 3
    assert LABELS.part_ids()["rear_left_door"] == 17


def test_the_names_hash_is_stable() -> None:
    assert VOCABULARY.names_hash() == NAMES_HASH


def test_a_flip_swaps_sides_and_two_flips_change_nothing() -> None:
    mirror, ids = LABELS.mirror_ids(), LABELS.part_ids()
    assert mirror[ids["front_left_door"]] == ids["front_right_door"]
    assert mirror[ids["hood"]] == ids["hood"]
    assert [mirror[i] for i in mirror] == list(range(62))
    sides = {"left": "right", "right": "left", "center": "center"}
    parts = VOCABULARY.parts
    assert all(parts[mirror[i] - 1].side == sides[p.side] for i, p in enumerate(parts, start=1))


def test_mirrored_parts_can_have_the_same_damages() -> None:
    by_name = {p.name: p for p in VOCABULARY.parts}
    assert all(by_name[p.mirror].damages == p.damages for p in VOCABULARY.parts if p.mirror)


def test_every_damage_is_possible_somewhere_and_every_part_can_be_damaged() -> None:
    assert {d for p in VOCABULARY.parts for d in p.damages} == {d.name for d in VOCABULARY.damages}
    assert all(p.damages for p in VOCABULARY.parts)


def test_tires_go_flat_and_doors_do_not() -> None:
    assert VOCABULARY.possible("flattire", "front_left_tire")
    assert VOCABULARY.possible("flattire", "wheel")
    assert not VOCABULARY.possible("flattire", "front_left_door")
    assert not VOCABULARY.possible("shatteredglass", "hood")


def test_every_class_is_agreed_to_by_some_damage() -> None:
    assert {c for d in VOCABULARY.damages for c in d.agrees} == set(VOCABULARY.classes)
    assert VOCABULARY.agrees("missingpart", "broken_part")
    assert not VOCABULARY.agrees("dent", "scratch")


def test_every_name_of_the_eighteen_part_set_translates() -> None:
    source = LABELS.sources["parts18"]
    assert len(source) == 18
    assert source["front_left_light"].names == ("left_headlight",)
    assert len(source["wheel"].names) == 8
    assert source["wheel"].serves == "wheel"


def test_a_broken_part_may_be_missing_torn_or_detached() -> None:
    target = LABELS.sources["damage6"]["crack"]
    assert set(target.names) == {"missingpart", "torn", "detached"}
    assert target.serves == "broken_part"
    assert all(VOCABULARY.agrees(name, target.serves) for name in target.names)


def _set(key: str, index: int, field: str, value: object) -> Callable[[dict[str, Any]], None]:
    def edit(raw: dict[str, Any]) -> None:
        raw[key][index][field] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_set("damages", 4, "id", 4), "damages.crackedpaint: id 4 where 5 belongs"),
        (_set("parts", 60, "id", 99), "parts.center_taillight: id 99 where 61 belongs"),
        (_set("parts", 6, "mirror", "front_left_door"), "parts.front_left_fender.mirror"),
        (_set("parts", 6, "side", "right"), "parts.front_left_fender.side"),
        (_set("parts", 6, "name", "hood"), "hood: this name stands twice"),
        (_set("parts", 6, "provenance", "guessed"), "parts.6.provenance"),
        (_set("parts", 6, "colour", "red"), "parts.6.colour"),
        (_set("damages", 0, "agrees", ["scratched"]), "damages.scratch.agrees: 'scratched' is no class"),
        (_set("coarse", 0, "members", ["wheel_cap"]), "coarse.wheel.members: 'wheel_cap' is no part"),
        (lambda raw: raw["occurs"].pop("dent"), "damages.dent"),
        (lambda raw: raw["occurs"].update(dent=["bonnet"]), "occurs.dent: 'bonnet' is no part or group"),
        (lambda raw: raw["groups"].update(panels=["painted"]), "groups.panels: 'painted'"),
        (lambda raw: raw["sources"]["hers"].update(scrape="scraped"), "sources.hers.scrape: 'scraped'"),
    ],
)
def test_a_wrong_entry_is_named(edit: Callable[[dict[str, Any]], None], message: str, tmp_path: Path) -> None:
    raw = yaml.safe_load(DEFAULT_PATH.read_text(encoding="utf-8"))
    edit(raw)
    path = tmp_path / "labels.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    with pytest.raises(LabelError) as error:
        load_labels(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.yaml"
    path.write_text(DEFAULT_PATH.read_text(encoding="utf-8") + "\nclasses: [dent]\n", encoding="utf-8")
    with pytest.raises(LabelError, match="'classes' stands twice"):
        load_labels(path)


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.yaml"
    path.write_text("- dent\n", encoding="utf-8")
    with pytest.raises(LabelError):
        load_labels(path)
