"""A finished or interrupted run, read back."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from export.albert.model import Albert
from export.albert.position import resized
from export.albert.train import Config
from export.config import build
from export.training import read_checkpoint


def load_run(folder: Path, size: int | None = None) -> tuple[Albert, Config]:
    """The averaged model of a run, for photos of `size`. Raises ValueError for a folder that holds no run of ALBERT."""
    path = folder / "checkpoint.pt"
    state = read_checkpoint(path)
    config = build(Config, state["config"], str(path))
    weights: dict[str, Tensor] = state["averaged"]
    preset = config.preset
    if size and size != preset.size:
        preset = build(type(preset), {**vars(preset), "size": size}, "--size")
        weights["position"] = resized(weights["position"], size // 16)
    model = Albert(preset)
    model.load_state_dict(weights)
    return model.eval(), config
