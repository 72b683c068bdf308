"""A plain ViT's way in: linear patches (eq. 1), with three strided convolutions beside them for what is thin."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.efficientnet_lite import MEAN, SCALE

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
