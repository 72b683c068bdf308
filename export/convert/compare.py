"""What a pack's faster graphs cost and gain: `python -m export.convert.compare --pack models/albert --data ../data`.

Every graph sees the same test photos, so differences are paired: their intervals resample photos, not graphs. Speed is
measured on the plain CPU provider with one thread, graph after graph in turns, as a ratio to fp32 of the same run.
A classifier's `--memory` holds embeddings of its fp32 graph: with it, what another graph's queries find there.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from export.albert.dataset import truths
from export.albert.evaluate import Scores, Truth, evaluate
from export.albert.report import predictor
from export.convert.parity import agreement
from export.convert.rows import rows
from export.convert.to_onnx import session
from export.cropresmoe.calibrate import neighbours
from export.cropresmoe.evaluate import Answers, Memory, answers, read_memory, with_fallback
from export.evaluation import Matches, average_precision
from export.labels import load_labels
from export.statistics import bootstrap_mean
from services.common.serving.modelpack import Pack, load_pack

ROUNDS = 21
PARITY_ROWS = 200
NEAREST = 8

FASTER: tuple[str, ...] = ("fp16", "int8")
Row = tuple[str, float, tuple[float, float], int]


def paired_ap(before: list[list[Matches]], after: list[list[Matches]], rounds: int = 300) -> Row:
    """Difference of the mean AP50 over names (lists of photos), resampling the same photos for both."""

    def mean(groups: list[list[Matches]], index: NDArray[np.int64]) -> float:
        return float(np.nanmean([average_precision([photos[i] for i in index]) for photos in groups]))

    count, rng = len(before[0]), np.random.default_rng(0)
    everyone = np.arange(count)
    draws = [mean(after, i) - mean(before, i) for i in rng.integers(0, count, (rounds, count))]
    low, high = np.quantile(draws, [0.025, 0.975])
    return "", mean(after, everyone) - mean(before, everyone), (float(low), float(high)), count


def photos(pack: Pack, variant: str, found: list[Truth]) -> Scores:
    manifest = pack.manifest
    return evaluate(
        predictor(pack, variant, threads=1),  # as fast as more of them on a busy machine, at half the work
        tqdm(found, desc=variant, unit="photo", mininterval=5),
        size=manifest.input.height,
        vocabulary=manifest.vocabulary,
        supported=manifest.supported,
        thresholds=manifest.thresholds,
    )


def segmenter(pack: Pack, variants: list[str], data: Path, split: str) -> dict[str, list[Row]]:
    found = [truth for truth, _ in truths(data, split, load_labels())]
    base = photos(pack, "fp32", found)
    table: dict[str, list[Row]] = {}
    for variant in variants:
        scores = photos(pack, variant, found)
        groups = {
            "damage mask AP50, class-agnostic": ([base.agnostic], [scores.agnostic]),
            "damage mask mAP50": (list(base.damages.values()), list(scores.damages.values())),
            "part mask mAP50": (list(base.parts.values()), list(scores.parts.values())),
        }
        table[variant] = [(name, *paired_ap(a, b)[1:]) for name, (a, b) in groups.items()]
    return table


def classifier(
    pack: Pack, variants: list[str], data: Path, split: str, memory: Path | None = None
) -> dict[str, list[Row]]:
    base = answers(pack, data, split)
    table: dict[str, list[Row]] = {}
    remembered = read_memory(load_pack(memory), pack.manifest) if memory else None
    for variant in variants:
        other = answers(pack, data, split, variant=variant)
        change = other.hits.astype(float) - base.hits
        flips = other.probabilities.argmax(1) != base.probabilities.argmax(1)
        table[variant] = [
            ("accuracy", float(change.mean()), bootstrap_mean(change, base.image), len(change)),
            ("label flips", float(flips.mean()), bootstrap_mean(flips, base.image), len(flips)),
        ]
        if remembered:
            table[variant] += fallback(pack, base, other, remembered)
    return table


def fallback(pack: Pack, base: Answers, other: Answers, memory: Memory) -> list[Row]:
    """What queries by another graph do to a memory of fp32 embeddings: neighbours, final answers, and who decides."""
    (_, theirs), (_, ours) = (neighbours(a.embedding, memory.embedding, k=NEAREST) for a in (base, other))
    again = np.array([np.isin(a, b).mean() for a, b in zip(theirs, ours, strict=True)])
    (before, outcome), (after, outcome_after) = (with_fallback(a, memory, pack.manifest) for a in (base, other))
    right, right_after = (p.argmax(1) == base.labels for p in (before, after))
    unsure = base.probabilities.max(1) <= pack.manifest.thresholds["tau"]
    change = right_after.astype(float) - right
    found = {
        f"of fp32's {NEAREST} nearest cases found": (again, base.image),
        "accuracy with fallback": (change, base.image),
        "accuracy with fallback, where fp32 is unsure": (change[unsure], base.image[unsure]),
        "outcomes that change": (np.array(outcome) != np.array(outcome_after), base.image),
    }
    return [(name, float(v.mean()), bootstrap_mean(v, by), len(v)) for name, (v, by) in found.items() if len(v)]


def speed(pack: Pack, variants: list[str], batch: NDArray[np.uint8]) -> dict[str, float]:
    """Median milliseconds for `batch`, one thread; the graphs take turns, so what else the machine does hits all."""
    runners = {variant: session(pack.read(variant), threads=1) for variant in ["fp32", *variants]}
    taken: dict[str, list[float]] = {variant: [] for variant in runners}
    for _ in range(ROUNDS):
        for variant, runner in runners.items():
            started = time.perf_counter()
            runner.run(None, {runner.get_inputs()[0].name: batch})
            taken[variant].append(1000 * (time.perf_counter() - started))
    return {variant: statistics.median(times[1:]) for variant, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a pack's FP16 and INT8 graphs against its fp32 one.")
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--memory", type=Path, help="a classifier's memory pack: what its graphs find in it")
    args = parser.parse_args()
    pack = load_pack(args.pack)
    variants: list[str] = [v for v in FASTER if v in pack.manifest.files]
    some = rows(pack.manifest, args.data, args.split, PARITY_ROWS)
    for variant in variants:
        print(variant, agreement(pack.manifest, pack.read("fp32"), pack.read(variant), some), f"n = {len(some)}")
    for n in (1, min(8, pack.manifest.max_batch)):
        taken = speed(pack, variants, some[:n])
        ratios = ", ".join(f"{v} {ms:.1f} ms ({taken['fp32'] / ms:.2f}x)" for v, ms in taken.items())
        print(f"one CPU thread, batch {n}: {ratios}")
    if pack.manifest.task == "segment":
        table = segmenter(pack, variants, args.data, args.split)
    else:
        table = classifier(pack, variants, args.data, args.split, args.memory)
    print("| graph | change against fp32 | value | 95 % interval | n |\n|---|---|---|---|---|")
    for variant, found in table.items():
        for name, value, (low, high), n in found:
            print(f"| {variant} | {name} | {value:+.4f} | {low:+.4f} to {high:+.4f} | {n} |")


if __name__ == "__main__":
    main()
