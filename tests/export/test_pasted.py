"""Damages are pasted only where they can occur, whole, and with their own outline."""

from __future__ import annotations

import numpy as np
import pytest

from export.albert.data import MASK_SIDE, PartSets, Sample
from export.albert.pasted import can_have, pasted, with_pastes
from export.labels import load_labels

pytestmark = pytest.mark.train
LABELS = load_labels()
SETS = PartSets(LABELS, "parts18")


def _car(row: int) -> Sample:
    """A grey panel over the left half of a black photo."""
    parts = np.zeros((MASK_SIDE, MASK_SIDE), np.uint8)
    parts[:, :160] = row
    pixels = np.zeros((160, 160, 3), np.uint8)
    pixels[:, :80] = 128
    return Sample(pixels, [], [], parts)


def _donor(name: str) -> Sample:
    mask = np.zeros((MASK_SIDE, MASK_SIDE), bool)
    mask[100:140, 200:260] = True
    pixels = np.full((160, 160, 3), 60, np.uint8)
    pixels[50:70, 100:130] = (200, 20, 20)
    return Sample(pixels, [mask], [(name,)])


def test_glass_breaks_on_glass_and_dents_are_in_metal() -> None:
    door, glass = SETS.index["front_left_door"], SETS.index["front_glass"]
    assert door in can_have(("dent",), LABELS, SETS)
    assert door not in can_have(("shatteredglass", "crackedglass"), LABELS, SETS)
    assert glass in can_have(("shatteredglass", "crackedglass"), LABELS, SETS)
    assert glass not in can_have(("dent",), LABELS, SETS)


def test_a_pasted_damage_lies_on_the_panel_with_its_outline() -> None:
    made = pasted(_car(SETS.index["front_left_door"]), (_donor("dent"), 0), LABELS, SETS, np.random.default_rng(0))
    assert made is not None
    assert made.names == [("dent",)]
    mask = made.masks[0]
    assert mask.sum() == 2400, "the whole damage"
    assert mask[:, :160].sum() >= 0.8 * 2400
    small = mask[::2, ::2]
    changed = np.abs(made.pixels.astype(int) - _car(1).pixels).max(-1) > 40
    assert (changed & small).sum() > 0.9 * small.sum()
    assert (changed & ~small).sum() < 0.3 * small.sum(), "only a soft edge outside"


def test_nothing_is_pasted_where_it_cannot_occur() -> None:
    glass = _car(SETS.index["front_glass"])
    assert pasted(glass, (_donor("dent"), 0), LABELS, SETS, np.random.default_rng(0)) is None
    assert with_pastes([glass, _donor("dent")], LABELS, SETS, share=1.0) == []
    door = _car(SETS.index["front_left_door"])
    assert len(with_pastes([door, _donor("dent")], LABELS, SETS, share=1.0)) == 1
