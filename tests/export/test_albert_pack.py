"""What a segment pack learns from validation photos beside its order (tests/export/test_albert_ranking.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.albert import pack as packing
from export.albert.evaluate import Scores
from export.evaluation import Matches
from services.common.serving.modelpack import Pack, load_pack
from tests.packs import write_segment_pack


def photo(found: bool) -> list[Matches]:
    """One photo with one labelled damage, found or missed."""
    return [Matches(np.array([0.9]), np.array([found]), 1)]


def test_each_damage_gets_the_mask_threshold_that_finds_it_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = load_pack(write_segment_pack(tmp_path))
    known, other = pack.manifest.supported["damages"][0], "never drawn"
    pack.manifest.supported["damages"] = [known, other, "not labelled"]

    def scores(pack: Pack, photos: object, decoding: dict[str, float]) -> Scores:
        absent = [Matches(np.zeros(0), np.zeros(0, bool), 0)]
        damages = {known: photo(decoding["mask"] == -1.0), other: photo(False), "not labelled": absent}
        return Scores(agnostic=photo(decoding["mask"] == -0.5), damages=damages)

    monkeypatch.setattr(packing, "_scores", scores)
    assert packing.best_decoding(pack, []) == {"mask": -0.5, f"mask_{known}": -1.0, f"mask_{other}": -0.5}
