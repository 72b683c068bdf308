"""A plain ViT's way in: linear patches (eq. 1), with three strided convolutions beside them for what is thin.

Takes DINOv2-style weights from a local file: parameter names as in timm and DINOv2.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.albert.position import resized
from export.efficientnet_lite import MEAN, SCALE, load_weights

if TYPE_CHECKING:
    from export.albert.model import Albert

PATCH = 16
_IMAGENET_MEAN, _IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of 0..255, as ViTs were trained
_FINE = 64  # channels at stride 4 and 8


class PatchStem(nn.Module):
    """Input as EfficientNetLite's: float [B, 3, S, S], (pixel - 127) / 128. `features`: maps at stride 4, 8 and 16."""

    gain: Tensor
    shift: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels = [_FINE // 2, _FINE, _FINE, width]  # strides 2, 4, 8, 16
        self.patch = nn.Conv2d(3, width, PATCH, PATCH)
        self.fine = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in ((3, _FINE // 2), (_FINE // 2, _FINE), (_FINE, _FINE))
        )
        scale = torch.tensor(_IMAGENET_STD)
        self.register_buffer("gain", (SCALE / scale).reshape(1, 3, 1, 1))
        self.register_buffer("shift", ((MEAN - torch.tensor(_IMAGENET_MEAN)) / scale).reshape(1, 3, 1, 1))

    def features(self, x: Tensor) -> list[Tensor]:
        """[B, 64, S/4, S/4], [B, 64, S/8, S/8], [B, d, S/16, S/16]."""
        x = x * self.gain + self.shift
        half = self.fine[0](x)
        quarter = self.fine[1](half)
        return [quarter, self.fine[2](quarter), self.patch(x)]


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
