"""Heads on cached features: the paper's frozen mode, in which a head trains in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.cropresmoe.features import Features
from export.cropresmoe.losses import focal_loss
from export.cropresmoe.model import HEADS
from export.training import Schedule, take_step


@dataclass(frozen=True)
class HeadConfig:
    """How a head is trained. Batch, weight decay and epochs are the paper's; its learning rate, 2e-1, is a misprint."""

    head: str = "moe"  # or linear
    alpha: float = 1.0  # scalar, as in the paper: with a softmax it only scales the loss
    gamma: float = 0.0
    balance: float = 0.0  # class weights n^-balance
    epochs: int = 24
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-4
    importance: float = 0.01
    seed: int = 0


@contextmanager
def one_thread() -> Iterator[None]:
    """A head's products are so small that threads wait for each other longer than they compute: on two cores that
    other work shares, 25 times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def train_head(config: HeadConfig, train: Features, classes: int) -> nn.Module:
    """A head of `classes` outputs on the features of `train`, with a cosine schedule. Seeded."""
    torch.manual_seed(config.seed)
    x, y = torch.from_numpy(train.x), torch.from_numpy(train.labels)
    head = HEADS[config.head](x.shape[1], classes)
    optimizer = torch.optim.AdamW(head.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    steps = max(1, len(y) // config.batch)
    schedule = Schedule(steps * config.epochs)
    counts = np.bincount(train.labels, minlength=classes)
    weights = np.where(counts > 0, np.maximum(counts, 1.0) ** -config.balance, 0.0)
    alpha = torch.tensor(weights / weights[counts > 0].mean(), dtype=torch.float32)
    absent = torch.tensor(np.where(counts > 0, 0.0, -1e4), dtype=torch.float32)
    rng = torch.Generator().manual_seed(config.seed)
    for step in range(steps * config.epochs):
        if step % steps == 0:
            order = torch.randperm(len(y), generator=rng)
        for group in optimizer.param_groups:
            group["lr"] = config.lr * schedule.factor(schedule.share(step))
        rows = order[step % steps * config.batch :][: config.batch]
        logits, gates = head(x[rows])
        hot = nn.functional.one_hot(y[rows], classes).float()
        loss: Tensor = config.alpha * focal_loss(logits + absent, hot, alpha, config.gamma)
        if gates.shape[1] > 1:
            load = gates.mean(0)
            loss = loss + config.importance * (load.std() / load.mean()) ** 2
        take_step(loss, head, optimizer)
    return head.eval()


@torch.no_grad()
def logits_of(head: nn.Module, found: Features) -> NDArray[np.float32]:
    """[n, C]."""
    out: NDArray[np.float32] = head(torch.from_numpy(found.x))[0].numpy()
    return out
