"""DINOv2-style weights for an ALBERT whose stem is plain patches, from a local file; names as in timm and DINOv2."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from export.albert.model import Albert
from export.albert.patches import PATCH
from export.albert.position import resized
from export.efficientnet_lite import load_weights


def load_vit(model: Albert, path: Path) -> None:
    """Encoder weights of a ViT from `path` (`.safetensors`, or a `.pth` of tensors only).

    Patches of another size and positions of another grid are interpolated; class and register tokens stay behind.
    Raises ValueError, naming the entry, for weights of another width or depth.
    """
    state, own = load_weights(path), model.state_dict()
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if name == "pos_embed":
            side = int((value.shape[1] - 1) ** 0.5)
            found["position"] = resized(value[:, -side * side :], int(own["position"].shape[1] ** 0.5))
        elif name == "patch_embed.proj.weight":
            found["stem.patch.weight"] = F.interpolate(value, (PATCH, PATCH), mode="bicubic", align_corners=False)
        elif (mine := _renamed(name)) in own:
            found[mine] = value
    needed = [k for k in own if k.startswith("blocks.") and ".scale" not in k] + ["position", "stem.patch.weight"]
    for name in needed:
        if name not in found or found[name].shape != own[name].shape:
            shape = tuple(found[name].shape) if name in found else "nothing"
            raise ValueError(f"{path}: not weights of this preset: {name} is {shape}, not {tuple(own[name].shape)}")
    for i in range(len(model.blocks)):  # a ViT without LayerScale adds its branches whole
        for scale in ("scale1", "scale2"):
            found.setdefault(f"blocks.{i}.{scale}", torch.ones(model.preset.width))
    model.load_state_dict(found, strict=False)


def _renamed(name: str) -> str:
    """timm's and DINOv2's name of a parameter as ours."""
    for theirs, ours in (
        ("mlp.fc1", "mlp.0"),
        ("mlp.fc2", "mlp.2"),
        ("ls1.gamma", "scale1"),
        ("ls2.gamma", "scale2"),
        ("patch_embed.proj.bias", "stem.patch.bias"),
    ):
        name = name.replace(theirs, ours)
    return name
