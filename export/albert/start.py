"""Where training starts: ImageNet, or an earlier run, its stem averaged with a trained classifier's backbone."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from export.albert.model import Albert
from export.albert.position import resized
from export.albert.vit_weights import load_vit
from export.efficientnet_lite import EfficientNetLite, load_imagenet


def start(model: Albert, *, imagenet: Path | None, run: Path | None, classifier: Path | None) -> None:
    """Give `model` its first weights.

    `run`: a segmenter run to go on from, whatever size its photos had; weights it lacks stay fresh. `classifier`: a
    CropResMoE run on the same backbone; the stem becomes the mean of both: each was tuned from the same ImageNet
    weights, the classifier's on damages seen close up. Raises ValueError where a run holds weights of another width.
    """
    if isinstance(model.stem, EfficientNetLite):
        load_imagenet(model.stem, imagenet)
    elif imagenet is not None:
        load_vit(model, imagenet)
    elif run is None:
        raise ValueError("a ViT needs weights to start from: name a local file of DINOv2-style weights with --weights")
    if run is not None:
        _load(model, torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)["averaged"], run)
    if classifier is not None:
        if not isinstance(model.stem, EfficientNetLite):
            raise ValueError("--classifier: only a convolutional stem can be averaged with a classifier's backbone")
        state = torch.load(classifier / "checkpoint.pt", map_location="cpu", weights_only=True)["averaged"]
        own = model.stem.state_dict()
        mean = {k: (v + state[f"backbone.{k}"]) / 2 for k, v in own.items() if v.dtype.is_floating_point}
        model.stem.load_state_dict({**own, **mean})


def _load(model: Albert, state: dict[str, Tensor], run: Path) -> None:
    own = model.state_dict()
    if "position" in state and state["position"].shape[-1] == own["position"].shape[-1]:
        state = {**state, "position": resized(state["position"], model.preset.size // 16)}
    wrong = [k for k, v in state.items() if k in own and own[k].shape != v.shape]
    if wrong:
        raise ValueError(f"{run}: {wrong[0]} has another shape: it is a run of another preset")
    model.load_state_dict(state, strict=False)
