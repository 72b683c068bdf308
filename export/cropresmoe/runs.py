"""A training run read back: its averaged model and its settings."""

from __future__ import annotations

from pathlib import Path

from export.config import build as from_values
from export.cropresmoe.config import Config, build
from export.cropresmoe.model import CropResMoE, RawMoE
from export.training import must_have_names, read_checkpoint


def load_model(run: Path, names: list[str]) -> tuple[CropResMoE | RawMoE, Config]:
    """The averaged model of a training run, whose outputs mean `names`.

    Raises ValueError naming the file and the first entry that does not fit: no checkpoint, one of another architecture
    or with another label map.
    """
    path = run / "checkpoint.pt"
    state = read_checkpoint(path)
    must_have_names(state, names, path)
    config = from_values(Config, state["config"], str(path))
    model = build(config, len(names))
    wanted, given = model.state_dict(), state["averaged"]
    wrong = [k for k in wanted if k not in given or given[k].shape != wanted[k].shape]
    wrong += [k for k in given if k not in wanted]
    if wrong:
        raise ValueError(
            f"{path}: not a checkpoint of {config.backbone} with {len(names)} classes: {wrong[0]} is missing, unknown "
            "or of another shape"
        )
    model.load_state_dict(given)
    return model.eval(), config


def load_run(run: Path, names: list[str]) -> tuple[CropResMoE, Config]:
    """As `load_model`, for what can be served: a model with a backbone whose features are an embedding."""
    model, config = load_model(run, names)
    if not isinstance(model, CropResMoE):
        raise ValueError(f"{run / 'checkpoint.pt'}: {config.backbone} has no backbone: it is for the ablation only")
    return model, config
