"""CropResMoE: a backbone over damage crops, and a mixture of five experts over its pooled features.

Item numbers are those of the paper's method section. B crops, d backbone width, E experts, C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.cropresmoe import backbones

EXPERTS = 5
HIDDEN = 128


class MoEHead(nn.Module):
    """Router softmax(W_r x + b_r) over experts d -> 128 -> C; the output is the gate-weighted sum of expert logits.

    paper: "assigns to one or more experts" and a dense sum; here: the dense sum. Logits are mixed, then softmaxed.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, EXPERTS)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes)) for _ in range(EXPERTS)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, d] -> logits [B, C], gates [B, E]."""
        gates = self.router(x).softmax(-1)
        logits = torch.stack([expert(x) for expert in self.experts], 1)  # [B, E, C]
        return (gates[..., None] * logits).sum(1), gates


class LinearHead(nn.Module):
    """What the paper's baselines have instead of experts; its one gate is always open."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.classify = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, d] -> logits [B, C], gates [B, 1]."""
        return self.classify(x), x.new_ones(len(x), 1)


HEADS: dict[str, type[MoEHead] | type[LinearHead]] = {"moe": MoEHead, "linear": LinearHead}


class CropResMoE(nn.Module):
    """uint8 crops [B, S, S, 3] -> logits [B, C], gates [B, E], features [B, d].

    `backbone`: resnet50 (the paper; 24,833,507 parameters at six classes) or another of `backbones.NAMES`; `head`:
    moe, or linear for a baseline.
    """

    def __init__(
        self,
        backbone: str = "lite2",
        classes: int = 7,
        dropout: float = 0.0,
        *,
        head: str = "moe",
    ) -> None:
        super().__init__()
        self.name = backbone
        self.backbone, width, mean, scale = backbones.make(backbone)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(scale).view(3, 1, 1), persistent=False)
        self.width = width
        self.dropout = dropout
        self.head: MoEHead | LinearHead = HEADS[head](width, classes)

    def embed(self, crops: Tensor) -> Tensor:
        """Pooled features [B, d] of uint8 crops [B, S, S, 3]."""
        mean, scale = self.get_buffer("mean"), self.get_buffer("scale")
        return self.backbone.embed((crops.permute(0, 3, 1, 2).to(mean.dtype) - mean) / scale)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.embed(crops)
        logits, gates = self.head(F.dropout(x, self.dropout, self.training))
        return logits, gates, x


class RawMoE(nn.Module):
    """The ablation's first row: the flattened 64 x 64 x 3 picture straight into the experts. 7.93 M parameters."""

    side = 64

    def __init__(self, classes: int = 7) -> None:
        super().__init__()
        self.head = MoEHead(self.side * self.side * 3, classes)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.interpolate(crops.permute(0, 3, 1, 2).float() / 255, (self.side, self.side), mode="area").flatten(1)
        return *self.head(x), x


def count_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
