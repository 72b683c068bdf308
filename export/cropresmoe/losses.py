"""What training minimises: focal loss with class weights, its adaptive form, and a teacher's answers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def focal_loss(logits: Tensor, target: Tensor, weights: Tensor, gamma: float | Tensor) -> Tensor:
    """Focal loss (Lin et al. 2017) on soft targets [B, C]; gamma 0 is cross-entropy.

    `weights` [C] are the class-wise alpha; `gamma` is one number or one per class [C].
    """
    logp = F.log_softmax(logits, -1)
    unsure = -torch.expm1(logp)  # 1 - p
    # Above 0, where a gamma below 1 has an infinite slope and a single sure sample would make every weight NaN.
    per = -(target * weights * unsure.clamp(min=1e-6) ** gamma * logp).sum(-1)
    return per.sum() / (target * weights).sum(-1).sum().clamp(min=1e-6)


class Focus:
    """Gamma per class that grows where the model is unsure: gamma_c = gamma + adaptive * (1 - mean p of class c).

    The mean is a moving one over training crops, so a class that is learned late is looked at longest (item 29; the
    paper names the idea and no formula). With adaptive 0 it is plain focal loss.
    """

    def __init__(self, classes: int, gamma: float, adaptive: float, device: torch.device) -> None:
        self.base, self.adaptive = gamma, adaptive
        self.sure = torch.full((classes,), 0.5, device=device)  # mean probability of the true class

    @property
    def gamma(self) -> Tensor:
        return self.base + self.adaptive * (1 - self.sure)

    def see(self, logits: Tensor, labels: Tensor, keep: float = 0.9) -> None:
        """Take a batch into the mean: logits [B, C], labels [B] (-1 for none)."""
        if not self.adaptive:
            return
        known = labels >= 0
        p = logits.detach().float().softmax(-1)[known].gather(1, labels[known, None])[:, 0]
        count = torch.bincount(labels[known], minlength=len(self.sure))
        mean = torch.bincount(labels[known], p, minlength=len(self.sure)) / count.clamp(min=1)
        self.sure = torch.where(count > 0, keep * self.sure + (1 - keep) * mean, self.sure)


def distillation(student: Tensor, teacher: Tensor, heat: float) -> Tensor:
    """heat^2 KL(teacher || student) of logits [B, C], both softened by `heat` (Hinton et al. 2015)."""
    target = (teacher / heat).softmax(-1)
    return heat**2 * F.kl_div((student / heat).log_softmax(-1), target, reduction="batchmean")
