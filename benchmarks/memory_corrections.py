"""What people's corrections change: `python -m benchmarks.memory_corrections --data ../data`.

On test crops that the classifier is unsure of (calibrated top probability at or below tau): accuracy of the model, with
the shipped memory, and after 200 simulated corrections, true labels of crops drawn from one half of the validation
photos. The other half is the frozen regression set that guards the memory. 20 draws; the change is paired by crop and
its interval resamples photos.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from export.cropresmoe import evaluate
from export.cropresmoe.regression import regression_file
from export.statistics import bootstrap_mean
from services.common.serving.errors import MemoryRefused
from services.common.serving.modelpack import Pack, load_pack, write_pack
from services.common.serving.schemas import Case
from services.common.vision.vote import NEIGHBOURS, decide, rule
from services.retrieval.memory import Memory

TENANT = "acme"


@dataclass(frozen=True)
class Crops:
    """What the classifier says of n labelled crops."""

    probabilities: NDArray[np.float64]
    embedding: NDArray[np.float32]
    labels: NDArray[np.int64]
    image: NDArray[np.int64]

    def only(self, keep: NDArray[np.bool_]) -> Crops:
        return Crops(self.probabilities[keep], self.embedding[keep], self.labels[keep], self.image[keep])


def crops(pack: Pack, data: Path, split: str, cache: Path | None) -> Crops:
    """The classifier's answers, from `cache` where they are there already."""
    kept = cache / f"{split}.npz" if cache else None
    if kept and kept.is_file():
        found = np.load(kept, allow_pickle=False)
        return Crops(*(found[name] for name in ("probabilities", "embedding", "labels", "image")))
    a = evaluate.answers(pack, data, split)
    made = Crops(a.probabilities, a.embedding, a.labels, a.image)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **vars(made))
    return made


def decided(memory: Memory, asked: Crops, thresholds: dict[str, float]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Per crop whether the final answer is right, and whether it is settled without review."""
    index = {name: i for i, name in enumerate(memory.space.classes)}
    right, settled = [], []
    for start in range(0, len(asked.labels), 200):
        part = slice(start, start + 200)
        found = memory.search(asked.embedding[part], k=NEIGHBOURS, tenant=TENANT)
        for p, label, near in zip(asked.probabilities[part], asked.labels[part], found, strict=True):
            decision = decide(
                p,
                [n.distance for n in near],
                [index[n.label] for n in near],
                human=[n.source == "human" for n in near],
                **rule(thresholds),
            )
            right.append(decision.label == label)
            settled.append(decision.outcome != "review")
    return np.array(right), np.array(settled)


def teach(memory: Memory, lessons: Crops) -> int:
    """Add every crop with its true label; answers how many were refused."""
    refused = 0
    for number, (embedding, label) in enumerate(zip(lessons.embedding, lessons.labels, strict=True)):
        case = Case(id=f"c{number}", label=memory.space.classes[int(label)], claim_id=f"clm_{number}")
        try:
            memory.add(case, embedding, tenant=TENANT)
        except MemoryRefused:
            refused += 1
    return refused


def _row(what: str, values: NDArray[np.bool_ | np.float64], image: NDArray[np.int64]) -> str:
    low, high = bootstrap_mean(values, image)
    return f"| {what} | {np.mean(values):+.4f} | {low:+.4f} to {high:+.4f} | {len(values)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="The fallback and people's corrections on unsure test crops.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--classifier", type=Path, default=Path("models/cropresmoe"))
    parser.add_argument("--memory", type=Path, default=Path("models/memory"))
    parser.add_argument("--corrections", type=int, default=200)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--cache", type=Path, help="folder to keep the classifier's answers in")
    args = parser.parse_args()
    classifier, shipped = load_pack(args.classifier), load_pack(args.memory)
    thresholds = shipped.manifest.thresholds
    val, test = (crops(classifier, args.data, split, args.cache) for split in ("val", "test"))
    unsure = test.only(test.probabilities.max(1) <= thresholds["tau"])
    taught, guarding = val.only(val.image % 2 == 0), val.only(val.image % 2 == 1)
    alone = unsure.probabilities.argmax(1) == unsure.labels
    with tempfile.TemporaryDirectory() as folder:
        frozen = regression_file(guarding.probabilities, guarding.embedding, guarding.labels)
        files = {"memory": shipped.read("memory"), "regression": frozen}
        pack = write_pack(Path(folder) / "pack", shipped.manifest, files)
        memory = Memory.open(pack, folder=Path(folder), database_url=f"sqlite:///{folder}/rows.db")
        before, settled = decided(memory, unsure, thresholds)
        empty = memory.snapshot().name
        rng, after, kept, refused = np.random.default_rng(0), [], [], 0
        for _ in tqdm(range(args.draws), desc="draws", mininterval=5):
            memory.restore(empty)
            drawn = np.zeros(len(taught.labels), bool)
            drawn[rng.choice(len(drawn), min(args.corrections, len(drawn)), replace=False)] = True
            refused += teach(memory, taught.only(drawn))
            right, without_review = decided(memory, unsure, thresholds)
            after.append(right)
            kept.append(without_review)
        memory.close()
    mean, image = np.mean(after, axis=0), unsure.image
    print("| unsure test crops | value | 95 % interval | n |\n|---|---|---|---|")
    print(_row("accuracy of the model", alone, image))
    print(_row("... with the shipped memory", before, image))
    print(_row("change by the shipped memory", before.astype(float) - alone, image))
    print(_row(f"... after {args.corrections} corrections, mean of {args.draws} draws", mean, image))
    print(_row("change by the corrections, paired", mean - before, image))
    print(_row("settled without review, before", settled, image))
    print(_row("settled without review, after", np.mean(kept, axis=0), image))
    changes = np.mean(after, axis=1) - before.mean()
    print(f"\nPer draw the change lies between {changes.min():+.4f} and {changes.max():+.4f}.")
    print(f"The guard ({len(guarding.labels)} crops) refused {refused / args.draws:.1f} of {args.corrections} a draw.")


if __name__ == "__main__":
    main()
