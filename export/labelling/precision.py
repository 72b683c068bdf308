"""How right pseudo-labels are: `python -m export.labelling.precision --data ../data`, on labelled crops of a split.

Precision of what would be taken without a person ("model" and "blended"), with the one-sided 95 % lower bound of
Clopper and Pearson, by class and by source.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from export.cropresmoe import evaluate
from export.cropresmoe.calibrate import neighbours
from export.statistics import precision_at_least
from services.common.serving.modelpack import load_pack
from services.common.vision.vote import NEIGHBOURS, decide, rule


def _row(what: str, right: NDArray[np.bool_]) -> str:
    n, hits = len(right), int(right.sum())
    value = f"{hits / n:.3f} | {precision_at_least(hits, n):.3f}" if n else "- | -"
    return f"| {what} | {n} | {value} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Precision of accepted pseudo-labels.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--classifier", type=Path, default=Path("models/cropresmoe"))
    parser.add_argument("--memory", type=Path, default=Path("models/memory"))
    args = parser.parse_args()
    pack = load_pack(args.classifier)
    rows = load(load_pack(args.memory).read("memory"))
    found = evaluate.answers(pack, args.data, args.split)
    distances, index = neighbours(found.embedding, rows["embedding"].astype(np.float32), k=NEIGHBOURS)
    decisions = [
        decide(p, near, rows["label"].astype(np.int64)[voters], **rule(pack.manifest.thresholds))
        for p, near, voters in zip(found.probabilities, distances, index, strict=True)
    ]
    names = np.array([decision.label for decision in decisions])
    outcomes = np.array([decision.outcome for decision in decisions])
    right, taken = names == found.labels, outcomes != "review"
    print(f"| {args.split} crops | n | precision | at least |\n|---|---|---|---|")
    print(_row("accepted, all", right[taken]))
    print(_row("accepted, model alone", right[outcomes == "accept"]))
    print(_row("accepted, blended", right[outcomes == "blended"]))
    for number, name in enumerate(pack.manifest.vocabulary.classes):
        print(_row(f"accepted as {name}", right[taken & (names == number)]))
    print(_row("left to a person: had the label been taken", right[~taken]))


if __name__ == "__main__":
    main()
