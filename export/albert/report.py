"""Measure a segment pack: `python -m export.albert.report --pack models/albert --data ../data`.

Runs the pack's own ONNX file through the serving code and prints (and writes with --out) one
Markdown page with intervals.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from export.albert.dataset import truths
from export.albert.evaluate import Predict, Scores, Truth, evaluate
from export.albert.model import OUTPUTS
from export.convert.to_onnx import session
from export.data.coco import Photo, clean_licence
from export.labels import load_labels
from services.common.serving.modelpack import Metric, Pack, load_pack


def predictor(pack: Pack, variant: str = "fp32", threads: int = 0) -> Predict:
    """The pack's graph on the plain CPU provider, photo by photo."""
    runner = session(pack.read(variant), threads)

    def predict(pixels: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        return {
            name: value[0]
            for name, value in zip(OUTPUTS, runner.run(list(OUTPUTS), {"photo": pixels[None]}), strict=True)
        }

    return predict


def _scores(pack: Pack, photos: Iterable[Truth], what: str) -> Scores:
    manifest = pack.manifest
    return evaluate(
        predictor(pack),
        tqdm(photos, desc=what, unit="photo", mininterval=5),
        size=manifest.input.height,
        vocabulary=manifest.vocabulary,
        supported=manifest.supported,
        thresholds=manifest.thresholds,
    )


def measure(pack: Pack, data: Path, split: str) -> list[Metric]:
    """Damages on all photos, on those of the training source, and re-stretched to 4:3; parts; false alarms."""
    labels = load_labels()
    all_of: list[tuple[Truth, Photo]] = list(truths(data, split, labels))
    wide = (t for t, p in truths(data, split, labels, aspect=4 / 3) if p.width == p.height and t.damages)
    listed = pack.manifest.thresholds["damage"]
    found = _metrics(_scores(pack, (t for t, _ in all_of), "all photos"), listed, "", split)
    familiar = [t for t, p in all_of if clean_licence(p) and t.damages]
    own = _scores(pack, familiar, "photos of the training source")
    found += _metrics(own, listed, ", same source as training", split)
    stretched = _scores(pack, wide, "re-stretched")
    return found + _metrics(stretched, listed, ", square photos re-stretched to 4:3", split)


def _metrics(scores: Scores, listed: float, suffix: str, split: str) -> list[Metric]:
    command = f"python -m export.albert.report --pack models/albert --data DATA --split {split}"
    rows = []
    for name, (value, n, interval) in scores.table(listed).items():
        if n and not np.isnan(value):
            ci = None if interval is None else (round(interval[0], 4), round(interval[1], 4))
            today = date.today().isoformat()
            rows.append(
                Metric(
                    name=name + suffix, value=round(value, 4), n=n, ci95=ci, split=split, command=command, date=today
                )
            )
    return rows


def markdown(pack: Pack, split: str) -> str:
    """The manifest's own numbers as a page."""
    rows = [
        f"# {pack.manifest.name} {pack.manifest.version} on `{split}`",
        "",
        "| what | value | 95 % interval | n |",
        "|---|---|---|---|",
    ]
    for m in pack.manifest.metrics:
        interval = f"{m.ci95[0]:.3f} to {m.ci95[1]:.3f}" if m.ci95 else ""
        rows.append(f"| {m.name} | {m.value:.3f} | {interval} | {m.n} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a segment pack on a labelled split.")
    parser.add_argument("--pack", type=Path, default=Path("models/albert"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path, help="write the page here as well")
    args = parser.parse_args()
    pack = load_pack(args.pack)
    measured = Pack(pack.folder, pack.manifest.model_copy(update={"metrics": measure(pack, args.data, args.split)}))
    page = markdown(measured, args.split)
    print(page)
    if args.out:
        args.out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
