"""ResNet-50 (He et al. 2016, v1.5) without its classifier; parameter names are torchvision's.

A public `resnet50-*.pth` or `.safetensors` file loads as it is: `load_resnet50(model, path)`.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.efficientnet_lite import load_weights

MEAN = (123.675, 116.28, 103.53)  # ImageNet, RGB, 0..255
STD = (58.395, 57.12, 57.375)


class Bottleneck(nn.Module):
    """1x1, 3x3 (strided), 1x1, with a projected shortcut where shapes change."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * 4
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet50(nn.Module):
    """`embed`: float [B, 3, H, W], ImageNet-normalised -> [B, 2048]. 23,508,032 parameters."""

    width = 2048

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        inputs = 64
        for i, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], start=1):
            layers: list[nn.Module] = []
            for n in range(blocks):
                layers.append(Bottleneck(inputs, width, 2 if n == 0 and i > 1 else 1))
                inputs = width * 4
            self.add_module(f"layer{i}", nn.Sequential(*layers))

    def embed(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for i in range(1, 5):
            x = self.get_submodule(f"layer{i}")(x)
        return x.mean((2, 3))


def load_resnet50(model: ResNet50, path: Path) -> None:
    """Load torchvision ResNet-50 weights (their `fc` is left out). Raises ValueError for another architecture."""
    state = {k: v for k, v in load_weights(path).items() if not k.startswith("fc.")}
    own = model.state_dict()
    wrong = [k for k, v in own.items() if k not in state or state[k].shape != v.shape]
    if wrong:
        raise ValueError(f"{path}: not ResNet-50 weights: {wrong[0]} is missing or of another shape")
    with torch.no_grad():
        model.load_state_dict({k: state[k] for k in own})
