"""How much a person's label should count: `python -m benchmarks.memory_votes --data ../data`, on validation only.

Each validation crop is asked with the training cases and, as if people had labelled them, all validation crops of other
photos. Two questions: what a higher weight of people's votes changes on crops that the classifier is unsure of, and
from how near a person's label should overrule a model that is sure (`near`). The classifier's answers are those of the
frozen crops in the memory pack, which are the validation crops in their order.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from export.albert.dataset import DAMAGES
from export.cropresmoe.calibrate import neighbours
from export.cropresmoe.dataset import EVERY_BOX
from export.data.coco import read_coco
from export.labels import load_labels
from export.statistics import bootstrap_mean, nll
from services.common.serving.modelpack import Pack, load_pack
from services.common.vision.vote import NEIGHBOURS, Decision, Rule, decide, rule
from services.retrieval.packcases import frozen_crops

WEIGHTS = (1.0, 2.0, 4.0, 8.0)
NEAR = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)


@dataclass(frozen=True)
class Asked:
    """n labelled crops and their k nearest cases, none of them of the same photo."""

    probabilities: NDArray[np.float64]  # [n, C]
    labels: NDArray[np.int64]
    group: NDArray[np.int64]
    distances: NDArray[np.float64]  # [n, k]
    told: NDArray[np.int64]  # [n, k] labels
    human: NDArray[np.bool_]  # [n, k]

    def decided(self, crop: int, numbers: Rule, weight: float = 1.0) -> Decision:
        human = self.human[crop]
        weights = np.where(human, weight, 1.0)
        return decide(
            self.probabilities[crop], self.distances[crop], self.told[crop], human=human, weights=weights, **numbers
        )


def asked(pack: Pack, data: Path, *, siblings: bool) -> Asked:
    """`siblings`: other photos that show the same thing count too, as another photo of one damage would."""
    frozen = frozen_crops(pack)
    if frozen is None:
        raise SystemExit(f"{pack.folder}: brings no frozen crops to ask with.")
    labels, photos, groups = [], [], []
    vocabulary = load_labels()
    served = {name: label.serves for name, label in vocabulary.sources[DAMAGES].items()}
    found = read_coco(data / "damage" / "val.json", categories=served)
    for number, photo in enumerate(found.photos):
        for sample in EVERY_BOX.samples(photo, found.categories):
            labels.append(pack.manifest.vocabulary.classes.index(served[sample.category]))
            photos.append(number)
            groups.append(-1 - number if photo.group is None else photo.group)
    if labels != frozen.label.tolist():
        raise SystemExit(f"{pack.folder}: its frozen crops are not those of {data}.")
    rows = load(pack.read("memory"))
    image, group = np.array(photos), np.array(groups)
    memory = np.concatenate([rows["embedding"].astype(np.float32), frozen.embedding])
    told = np.concatenate([rows["label"].astype(np.int64), frozen.label])
    own = image if siblings else group
    same = np.concatenate([np.zeros((len(image), len(rows["label"])), bool), own[:, None] == own[None, :]], axis=1)
    distances, index = neighbours(frozen.embedding, memory, k=NEIGHBOURS, same=same)
    return Asked(frozen.probabilities, frozen.label, group, distances, told[index], index >= len(rows["label"]))


def weights_table(crops: Asked, numbers: Rule) -> list[str]:
    unsure = np.flatnonzero(crops.probabilities.max(1) <= numbers["tau"]).tolist()
    group, truth = crops.group[unsure], crops.labels[unsure]
    lines = [
        "| weight of a person's vote | right | n | change, paired | 95 % interval | NLL |",
        "|---|---|---|---|---|---|",
    ]
    first: NDArray[np.float64] | None = None
    for weight in WEIGHTS:
        made = [crops.decided(crop, numbers, weight) for crop in unsure]
        right = (np.array([decision.label for decision in made]) == truth).astype(float)
        first = right if first is None else first
        low, high = bootstrap_mean(right - first, group)
        loss = nll(np.stack([decision.probabilities for decision in made]), truth)
        lines.append(
            f"| {weight:g} | {right.mean():.3f} | {len(right)} | {np.mean(right - first):+.4f} "
            f"| {low:+.4f} to {high:+.4f} | {loss:.4f} |"
        )
    return lines


def near_table(crops: Asked, numbers: Rule) -> list[str]:
    """Per `near`: how many crops have such a neighbour, whether it is right, and what is accepted then."""
    lines = [
        "| near | crops with such a neighbour | its label is right | answers it changes | right before | right after "
        "| accepted | precision |",
        "|---" * 8 + "|",
    ]
    alone = [crops.decided(crop, Rule(**{**numbers, "near": -1.0})) for crop in range(len(crops.labels))]
    before = np.array([decision.label for decision in alone])
    for near in NEAR:
        made = [crops.decided(crop, Rule(**{**numbers, "near": near})) for crop in range(len(crops.labels))]
        label = np.array([decision.label for decision in made])
        taken = np.array([decision.outcome != "review" for decision in made])
        close = crops.human & (crops.distances <= near)
        has = close.any(1)
        nearest = crops.told[np.arange(len(close)), close.argmax(1)]
        changed = label != before
        right, was = label == crops.labels, before == crops.labels
        share = f"{np.mean(nearest[has] == crops.labels[has]):.3f}" if has.any() else "-"
        lines.append(
            f"| {near:g} | {has.sum()} | {share} | {changed.sum()} | {was[changed].sum()} | {right[changed].sum()} "
            f"| {taken.sum()} | {right[taken].mean():.4f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="What people's votes should weigh, on validation crops.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--memory", type=Path, default=Path("models/memory"))
    args = parser.parse_args()
    pack = load_pack(args.memory)
    numbers = rule(pack.manifest.thresholds)
    for siblings in (False, True):
        crops = asked(pack, args.data, siblings=siblings)
        kept = "other photos of the same thing too" if siblings else "nothing that shows the same thing"
        print(f"\nCases of other photos, {kept}; n = {len(crops.labels)}\n")
        print("\n".join([*weights_table(crops, numbers), "", *near_table(crops, numbers)]))


if __name__ == "__main__":
    main()
