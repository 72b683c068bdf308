"""Runs whose weights are averaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from export.soup import soup


def run(folder: Path, names: list[str] | None = None, **weights: Tensor) -> Path:
    folder.mkdir()
    torch.save({"config": {"seed": 0}, "names": names, "averaged": weights}, folder / "checkpoint.pt")
    return folder


def test_weights_are_averaged_and_counters_taken_from_the_first(tmp_path: Path) -> None:
    a = run(tmp_path / "a", ["dent"], w=torch.tensor([1.0, 2.0]), steps=torch.tensor(5))
    b = run(tmp_path / "b", ["dent"], w=torch.tensor([3.0, 6.0]), steps=torch.tensor(9))
    state = torch.load(soup([a, b], tmp_path / "c"), weights_only=True)
    assert state["averaged"]["w"].tolist() == [2.0, 4.0] and state["averaged"]["steps"].item() == 5
    assert (state["config"], state["names"]) == ({"seed": 0}, ["dent"])


def test_runs_of_other_models_are_refused_by_name(tmp_path: Path) -> None:
    a = run(tmp_path / "a", ["dent"], w=torch.zeros(2))
    wide, more = run(tmp_path / "wide", w=torch.zeros(3)), run(tmp_path / "more", w=torch.zeros(2), x=torch.zeros(1))
    other = run(tmp_path / "other", ["scratch"], w=torch.zeros(2))
    for bad, why in ((wide, "wide: w is"), (more, "more: x is"), (other, "'scratch' there and 'dent' here")):
        with pytest.raises(ValueError, match=why):
            soup([a, bad], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    a = run(tmp_path / "a", w=torch.zeros(2))
    with pytest.raises(ValueError, match="choose another --out"):
        soup([a, a], a)
