"""Downstream utility: does adding k generated crops of a rare class help a classifier on real ones?

A linear probe on our frozen embedding, so that three seeds take seconds and nothing but the added rows differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Rows:
    """Embeddings [n, d] and labels [n]."""

    embedding: NDArray[np.float32]
    label: NDArray[np.int64]


@dataclass(frozen=True)
class Gain:
    """Recall of one class on real test rows, without and with `added` generated rows; one entry per seed."""

    label: int
    added: int
    test: int
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.after) - np.mean(self.before))


def utility(
    real: Rows, made: Rows, test: Rows, *, rare: Sequence[int], k: int, seeds: Sequence[int] = (0, 1, 2)
) -> list[Gain]:
    """For each rare class: recall of probes trained on `real`, and on `real` and `k` rows of that class from `made`."""
    classes = int(max(real.label.max(), made.label.max(), test.label.max())) + 1
    gains = []
    for label in rare:
        mine = np.flatnonzero(made.label == label)
        truth = test.label == label
        if not len(mine) or not truth.any():
            continue
        before: list[float] = []
        after: list[float] = []
        for seed in seeds:
            chosen = np.random.default_rng(seed).permutation(mine)[:k]
            both = Rows(
                np.concatenate([real.embedding, made.embedding[chosen]]),
                np.concatenate([real.label, made.label[chosen]]),
            )
            for rows, recalls in ((real, before), (both, after)):
                guess = _probe(rows, test.embedding, classes, seed)
                recalls.append(float((guess[truth] == label).mean()))
        gains.append(Gain(label, min(k, len(mine)), int(truth.sum()), tuple(before), tuple(after)))
    return gains


def _probe(rows: Rows, test: NDArray[np.float32], classes: int, seed: int) -> NDArray[np.int64]:
    torch.manual_seed(seed)
    model = torch.nn.Linear(rows.embedding.shape[1], classes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=1e-3)
    x, y = torch.from_numpy(rows.embedding), torch.from_numpy(rows.label)
    for _ in range(200):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x) * 10, y)  # unit vectors: a temperature of 0.1
        torch.autograd.backward([loss])
        optimizer.step()
    with torch.inference_mode():
        return np.asarray(model(torch.from_numpy(test)).argmax(1).numpy(), np.int64)
