"""Downstream utility: does adding k generated pictures of a rare class help a classifier on real crops?

`python -m export.hers.utility --pairs pairs --data ../data` asks it of the rarest classes of the training split. A
linear probe on our frozen embedding, so that three seeds take seconds and nothing but the added rows differs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from export.cropresmoe.evaluate import answers, run_pack
from export.hers.pairs import read_pairs
from export.training import commands_error
from services.common.serving.modelpack import Pack, load_pack
from services.common.vision.crops import cut_crops


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


def made_rows(pack: Pack, pairs: Path, *, least: float = 0.0) -> Rows:
    """Generated pictures, whole, under every class that agrees with the damage they were asked for.

    `least`: of the judge's probability that a picture shows what was asked. Raises ValueError where no pair qualifies.
    """
    shape, vocabulary = pack.manifest.input, pack.manifest.vocabulary
    crops, labels = [], []
    for path, prompt, _ in tqdm(read_pairs(pairs, least=least), desc="generated pictures", unit="picture"):
        meant = [i for i, name in enumerate(vocabulary.classes) if vocabulary.agrees(prompt.damage or "", name)]
        if not meant:
            continue
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        crop = cut_crops(pixels, [[0.0, 0.0, 1.0, 1.0]], size=shape.height, resize=shape.resize)
        crops += [crop] * len(meant)
        labels += meant
    if not crops:
        raise ValueError(f"{pairs}: no pair with a damage that the classifier knows; lower --least or render more")
    return Rows(run_pack(pack.read("fp32"), np.concatenate(crops))[2], np.array(labels, np.int64))


def main() -> None:
    parser = argparse.ArgumentParser(description="What generated pictures of rare classes do for real crops.")
    parser.add_argument("--pairs", type=Path, required=True, help="folder of export.hers.pairs")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pack", type=Path, default=Path("models/cropresmoe"))
    parser.add_argument("--k", type=int, default=50, help="generated pictures added per class")
    parser.add_argument("--rare", type=int, default=2, help="how many of the rarest classes")
    parser.add_argument("--least", type=float, default=0.5, help="the judge's least probability of a picture's target")
    args = parser.parse_args()
    with commands_error():
        pack = load_pack(args.pack)
        made = made_rows(pack, args.pairs, least=args.least)
        real, test = (Rows(a.embedding, a.labels) for a in (answers(pack, args.data, s) for s in ("train", "test")))
        present, counts = np.unique(real.label, return_counts=True)
        rarest = present[np.argsort(counts, kind="stable")][: args.rare].tolist()
        print("| class | added | test crops | recall without | recall with | change |\n|---|---|---|---|---|---|")
        for gain in utility(real, made, test, rare=rarest, k=args.k):
            before, after = np.mean(gain.before), np.mean(gain.after)
            name = pack.manifest.vocabulary.classes[gain.label]
            print(f"| {name} | {gain.added} | {gain.test} | {before:.3f} | {after:.3f} | {gain.mean:+.3f} |")


if __name__ == "__main__":
    main()
