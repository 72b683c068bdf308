"""One training step's loss: classes with their weights, load of the experts, and a teacher's answers."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.cropresmoe.config import Config
from export.cropresmoe.data import Crops
from export.cropresmoe.losses import Focus, distillation, focal_loss
from export.training import fast_bf16


class Objective:
    """The loss of a batch. `absent` [C] is added to logits: a class without samples must not distract."""

    def __init__(self, config: Config, data: Crops, classes: int, device: torch.device, teacher: Tensor | None) -> None:
        if (config.teacher > 0) != (teacher is not None):
            raise ValueError("`teacher` in the preset and a teacher's answers belong together: give both or neither")
        self.config = config
        self.labels = torch.from_numpy(data.labels).to(device)
        self.teacher = None if teacher is None else teacher.to(device)
        counts = np.bincount(data.labels, minlength=classes).astype(np.float32)
        weights = np.where(counts > 0, np.maximum(counts, 1) ** -config.balance, 0.0)
        self.alpha = torch.tensor(weights / weights[counts > 0].mean(), dtype=torch.float32, device=device)
        self.absent = torch.tensor(np.where(counts > 0, 0.0, -1e4), dtype=torch.float32, device=device)
        self.focus = Focus(classes, config.gamma, config.adaptive, device)

    def __call__(self, model: nn.Module, x: Tensor, index: Tensor, rng: torch.Generator) -> Tensor:
        """`x`: uint8 [B, S, S, 3], the augmented crops of rows `index` [B]."""
        config = self.config
        labels, taught = self.labels[index], None if self.teacher is None else self.teacher[index]
        target = _smoothed(labels, self.absent == 0, config.smoothing)
        x, target, taught = _mixup(x, target, taught, config.mixup, rng)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=fast_bf16(x.device)):
            logits, gates, _ = model(x)
        logits = logits.float() + self.absent
        loss = focal_loss(logits, target, self.alpha, self.focus.gamma)
        self.focus.see(logits, labels)
        if taught is not None:
            learned = distillation(logits, taught + self.absent, config.heat)
            loss = (1 - config.teacher) * loss + config.teacher * learned
        if gates.shape[1] > 1:
            load = gates.float().mean(0)
            loss = loss + config.importance * (load.std() / load.mean()) ** 2  # balanced load over experts
        return loss


def _smoothed(labels: Tensor, present: Tensor, smoothing: float) -> Tensor:
    """One-hot targets [B, C], smoothed over the classes that are `present` [C]."""
    hot = F.one_hot(labels, len(present)).float()
    return hot * (1 - smoothing) + smoothing * present.float() / present.sum()


def _mixup(
    x: Tensor, target: Tensor, taught: Tensor | None, alpha: float, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Mixup of crops, targets and a teacher's logits with a per-batch share from Beta(alpha, alpha); off at 0."""
    if alpha <= 0:
        return x, target, taught
    share = float(np.random.default_rng(int(torch.randint(2**31, (1,), generator=rng))).beta(alpha, alpha))
    other = torch.randperm(len(x), generator=rng).to(x.device)
    mixed = share * x.float() + (1 - share) * x[other].float()
    taught = None if taught is None else share * taught + (1 - share) * taught[other]
    return mixed.to(torch.uint8), share * target + (1 - share) * target[other], taught
