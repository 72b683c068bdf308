"""Rows of the comparison tables (ablation, frozen heads, focal grid): measured once, kept as JSON for the report."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.cropresmoe.dataset import SIZES
from export.statistics import bootstrap_mean, class_rows
from services.common.vision.vote import calibrated

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Result:
    """One model on one set of samples."""

    table: str  # ablation | frozen | focal
    name: str
    samples: str  # every box, or one a photo (the paper's protocol)
    n: int
    accuracy: float
    low: float  # 95 % interval of the accuracy, resampling photos
    high: float
    macro_f1: float
    macro_ap: float
    ap_by_size: dict[str, float]  # macro AP among small, medium and large damages
    training: str  # on what, and how long
    split: str
    command: str
    date: str


def measure(
    logits: NDArray[np.float32],
    labels: Ints,
    image: Ints,
    taught: NDArray[np.bool_],
    *,
    size: Ints,
    **words: str,
) -> Result:
    """`logits` [n, C], `labels` [n] and `image` [n], which groups samples of one photo; `taught` [C] masks classes;
    `size` [n] indexes SIZES."""
    p = calibrated(logits, 1.0, taught)
    hits = p.argmax(1) == labels
    low, high = bootstrap_mean(hits, image)
    every = np.ones(len(labels), bool)
    by_size = {name: _macro(p, labels, size == i)[1] for i, name in enumerate(SIZES) if (size == i).any()}
    f1, ap = _macro(p, labels, every)
    return Result(
        n=len(labels),
        accuracy=round(float(hits.mean()), 4),
        low=round(low, 4),
        high=round(high, 4),
        macro_f1=f1,
        macro_ap=ap,
        ap_by_size=by_size,
        date=date.today().isoformat(),
        **words,
    )


def _macro(p: Floats, labels: Ints, which: NDArray[np.bool_]) -> tuple[float, float]:
    """F1 and AP, means over the classes that occur."""
    rows = class_rows(p[which], labels[which], [str(c) for c in range(p.shape[1])])
    return round(float(np.mean([r.f1 for r in rows])), 4), round(float(np.mean([r.average_precision for r in rows])), 4)


def keep(path: Path, found: list[Result]) -> None:
    """Write rows into a JSON file; a row of the same table, name, samples and split is replaced."""
    rows = {_identity(r): r for r in [*(read(path) if path.exists() else []), *found]}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps([asdict(r) for r in rows.values()], indent=1) + "\n", encoding="utf-8")
    beside.replace(path)


def read(path: Path) -> list[Result]:
    """Raises ValueError naming the file where it was not written here."""
    try:
        return [Result(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no table of results: {error}") from error


def _identity(r: Result) -> tuple[str, ...]:
    return r.table, r.name, r.samples, r.split


def markdown(found: list[Result]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [
        "| model | samples | n | accuracy | 95 % interval | macro F1 | macro AP | AP by size | training |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in found:
        lines.append(
            f"| {r.name} | {r.samples} | {r.n} | {r.accuracy:.3f} | {r.low:.3f} to {r.high:.3f} | {r.macro_f1:.3f} | "
            f"{r.macro_ap:.3f} | {' / '.join(f'{v:.3f}' for v in r.ap_by_size.values())} | {r.training} |"
        )
    return lines
