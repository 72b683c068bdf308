"""What a student keeps of its teacher, and how much faster it is.

`python -m export.albert.retention --teacher models/albert --student models/slick --data ../data`. Both see the same
photos, so ratios are paired: their intervals resample photos. Where packs have an INT8 graph, like is set against like,
and each INT8 graph against its own fp32 one. Speed is measured on the plain CPU provider with one thread, all graphs in
turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from export.albert.dataset import truths
from export.albert.evaluate import Scores, Truth, evaluate
from export.albert.report import predictor
from export.albert.study import Study
from export.convert.to_onnx import session
from export.evaluation import Matches, average_precision
from export.labels import load_labels
from export.statistics import bootstrap_of
from export.training import commands_error
from services.common.serving.modelpack import Pack, load_pack

ROUNDS = 31
BATCHES = (1, 4)
PRECISIONS = ("fp32", "int8")
Ints = NDArray[np.int64]


@dataclass
class Seen:
    """One pack on one split."""

    scores: Scores
    study: Study


@dataclass(frozen=True)
class Kept:
    """One row: the teacher's value, the student's, their ratio with its 95 % interval."""

    name: str
    n: int
    teacher: float
    student: float
    ratio: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Graph:
    """One of a pack's graphs."""

    pack: Pack
    precision: str

    @property
    def name(self) -> str:
        return f"{self.pack.manifest.name} {self.pack.manifest.version} {self.precision}"


def graphs(pack: Pack) -> list[Graph]:
    return [Graph(pack, precision) for precision in PRECISIONS if precision in pack.manifest.files]


def see(graph: Graph, photos: list[Truth]) -> Seen:
    """Run the graph on every photo."""
    manifest = graph.pack.manifest
    study = Study(manifest)
    scores = evaluate(
        predictor(graph.pack, graph.precision, threads=1),  # more of them wait longer than such a graph takes
        tqdm(photos, desc=graph.name, unit="photo", mininterval=5),
        size=manifest.input.height,
        vocabulary=manifest.vocabulary,
        supported=manifest.supported,
        thresholds=manifest.thresholds,
        watch=study,
    )
    return Seen(scores, study)


def kept(teacher: Seen, student: Seen) -> list[Kept]:
    """Damage AP50, part mAP50, part mIoU and the mean best overlap of labelled damages, the last by size too."""
    rows = []
    both = (teacher, student)
    if teacher.scores.agnostic:
        n, photos = sum(p.truths for p in teacher.scores.agnostic), np.arange(len(teacher.scores.agnostic))
        rows.append(_row("damage mask AP50, class-agnostic", n, photos, [_ap([s.scores.agnostic]) for s in both]))
    if teacher.study.part_cells:
        parts = [[p for p in s.scores.parts.values() if sum(m.truths for m in p)] for s in both]
        n, photos = sum(m.truths for p in parts[0] for m in p), np.arange(len(teacher.study.part_cells))
        rows.append(_row("part mask mAP50", n, photos, [_ap(groups) for groups in parts]))
        cells = [_miou(np.array(s.study.part_cells)) for s in both]
        rows.append(_row("part mIoU, as listed", len(photos), photos, cells))
    labelled = list(zip(*(s.study.best_iou for s in both), strict=True))
    for size in ("", "small", "medium", "large"):
        pairs = [pair for pair in labelled if size in ("", pair[0][0])]  # the teacher's finer grid says how large
        if pairs:
            photos = np.array([photo for (_, _, photo), _ in pairs])
            overlaps = [_mean(np.array([pair[which][1] for pair in pairs])) for which in (0, 1)]
            rows.append(_row(f"damage mIoU{f', {size}' * bool(size)}", len(photos), photos, overlaps))
    return rows


def _ap(groups: list[list[Matches]]) -> Callable[[Ints], float]:
    return lambda rows: float(np.nanmean([average_precision([photos[i] for i in rows]) for photos in groups]))


def _miou(cells: NDArray[np.float64]) -> Callable[[Ints], float]:
    def of(rows: Ints) -> float:
        both, either = cells[rows].sum(0).T
        return float((both[either > 0] / either[either > 0]).mean())

    return of


def _mean(values: NDArray[np.float64]) -> Callable[[Ints], float]:
    return lambda rows: float(values[rows].mean())


def _row(name: str, n: int, photos: Ints, pair: list[Callable[[Ints], float]]) -> Kept:
    """`photos`: whose photo each row is that the measures of teacher and student take."""
    teacher, student = pair
    everyone = np.arange(len(photos))
    low, high = bootstrap_of(lambda rows: student(rows) / max(teacher(rows), 1e-9), photos)
    before, after = teacher(everyone), student(everyone)
    return Kept(name, n, before, after, after / max(before, 1e-9), (low, high))


def speed(found: list[Graph], batch: int) -> list[float]:
    """Median CPU milliseconds of `batch` photos by each graph, one thread; the graphs take turns."""
    rng = np.random.default_rng(0)
    runs = []
    for graph in found:
        side = graph.pack.manifest.input.height
        photos = rng.integers(0, 256, (batch, side, side, 3)).astype(np.uint8)
        runs.append((session(graph.pack.read(graph.precision), threads=1), photos))
    taken: list[list[float]] = [[] for _ in found]
    for _ in range(ROUNDS):
        for (runner, photos), times in zip(runs, taken, strict=True):
            started = time.process_time()
            runner.run(None, {"photo": photos})
            times.append(1000 * (time.process_time() - started))
    return [statistics.median(times[1:]) for times in taken]


def pairs(teacher: list[Graph], student: list[Graph]) -> list[tuple[Graph, Graph]]:
    """What is set against what: each pack's INT8 against its fp32, the student's first as it is quick, and like
    against like."""
    own = [(found[0], found[1]) for found in (student, teacher) if len(found) > 1]
    alike = [(a, b) for a in reversed(teacher) for b in student if a.precision == b.precision]
    return own[:1] + alike + own[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a student keeps of its teacher, and its speed.")
    parser.add_argument("--teacher", type=Path, default=Path("models/albert"))
    parser.add_argument("--student", type=Path, default=Path("models/slick"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    args = parser.parse_args()
    with commands_error():
        teacher, student = graphs(load_pack(args.teacher)), graphs(load_pack(args.student))
        every = teacher + [g for g in student if g not in teacher]
        photos = [truth for truth, _ in truths(args.data, args.split, load_labels())]
    for batch in BATCHES:
        print(f"\n| graph, batch {batch} | CPU ms | times as fast as the first |\n|---|---|---|")
        taken = speed(every, batch)
        for graph, ms in zip(every, taken, strict=True):
            print(f"| {graph.name} | {ms:.1f} | {taken[0] / ms:.2f} |")
    seen: dict[str, Seen] = {}
    for before, after in pairs(teacher, student):
        for graph in (before, after):
            if graph.name not in seen:
                seen[graph.name] = see(graph, photos)
        print(f"\n| what | {before.name} | {after.name} | kept | 95 % interval | n |\n|---|---|---|---|---|---|")
        for r in kept(seen[before.name], seen[after.name]):
            low, high = r.interval
            values = f"{r.teacher:.3f} | {r.student:.3f} | {r.ratio:.3f}"
            print(f"| {r.name} | {values} | {low:.3f} to {high:.3f} | {r.n} |")


if __name__ == "__main__":
    main()
