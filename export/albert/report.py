"""Everything about a segment pack on one page: `python -m export.albert.report --pack models/albert --data ../data`.

Runs the pack's own ONNX file through the serving code. The page is HTML; pictures of the best and the worst photos lie
in a folder beside it, never in the repository.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from export.albert import sections
from export.albert.dataset import truths
from export.albert.evaluate import Predict, Scores, Truth, evaluate
from export.albert.model import OUTPUTS
from export.albert.study import Study
from export.convert.to_onnx import session
from export.data.coco import Photo, clean_licence
from export.labels import load_labels
from export.page import Page
from export.training import commands_error
from services.common.serving.modelpack import Metric, Pack, load_pack

_CASES = 8  # of the best photos and of the worst


def predictor(pack: Pack, variant: str = "fp32", threads: int = 0) -> Predict:
    """The pack's graph on the plain CPU provider, photo by photo."""
    runner = session(pack.read(variant), threads)

    def predict(pixels: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        return {
            name: value[0]
            for name, value in zip(OUTPUTS, runner.run(list(OUTPUTS), {"photo": pixels[None]}), strict=True)
        }

    return predict


def _scores(pack: Pack, photos: Iterable[Truth], what: str, watch: Study | None = None) -> Scores:
    manifest = pack.manifest
    return evaluate(
        predictor(pack),
        tqdm(photos, desc=what, unit="photo", mininterval=5),
        size=manifest.input.height,
        vocabulary=manifest.vocabulary,
        supported=manifest.supported,
        thresholds=manifest.thresholds,
        watch=watch,
    )


@dataclass
class Measured:
    """What a manifest states, and the matches of all photos behind it."""

    metrics: list[Metric]
    scores: Scores


def measure(pack: Pack, data: Path, split: str, watch: Study | None = None) -> Measured:
    """Damages on all photos, on those of the training source, and re-stretched to 4:3; parts; false alarms.

    `watch` is shown all photos once.
    """
    labels = load_labels()
    all_of: list[tuple[Truth, Photo]] = list(truths(data, split, labels))
    wide = (t for t, p in truths(data, split, labels, aspect=4 / 3) if p.width == p.height and t.damages)
    scores = _scores(pack, (t for t, _ in all_of), "all photos", watch)
    found = _metrics(pack, scores, "", split)
    declared = [t for t, p in all_of if clean_licence(p) and t.damages]
    own = _scores(pack, declared, "photos with a declared licence")
    found += _metrics(pack, own, ", photos with a declared licence alone", split)
    stretched = _scores(pack, wide, "re-stretched")
    found += _metrics(pack, stretched, ", square photos re-stretched to 4:3", split)
    return Measured(found, scores)


def _metrics(pack: Pack, scores: Scores, suffix: str, split: str) -> list[Metric]:
    manifest = pack.manifest
    command = f"python -m export.albert.report --pack models/{manifest.name} --data DATA --split {split}"
    rows = []
    for name, (value, n, interval) in scores.table(manifest.thresholds["damage"]).items():
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


def report(pack: Pack, data: Path, split: str, pictures: Path) -> str:
    """The page as HTML; `pictures`: a folder for those that it shows."""
    study = Study(pack.manifest, cases=_CASES)
    measured = measure(pack, data, split, study)
    page = Page(f"{pack.manifest.name} {pack.manifest.version} on {split}")
    page.say("Masks are compared on the pack's own grid over the whole photo. Intervals resample whole photos.")
    sections.stated(page, measured.metrics)
    sections.coco(page, study)
    if measured.scores.agnostic:
        sections.calibration(page, measured.scores)
    sections.cases(page, study, pictures)
    return page.render()


def main() -> None:
    parser = argparse.ArgumentParser(description="Write one page about a segment pack on a labelled split.")
    parser.add_argument("--pack", type=Path, default=Path("models/albert"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path, default=Path("runs/report.html"))
    args = parser.parse_args()
    with commands_error():
        args.out.parent.mkdir(parents=True, exist_ok=True)
        pictures = args.out.with_suffix(".pictures")
        args.out.write_text(report(load_pack(args.pack), args.data, args.split, pictures), encoding="utf-8")
        print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
