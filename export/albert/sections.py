"""The report's sections: what they show of a pass that `export.albert.report` made."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np

from export import plots
from export.albert.coco_ap import ANY, CocoRow
from export.albert.evaluate import Scores
from export.albert.study import OUTCOMES, Case, Study
from export.page import Page, interval, number
from export.statistics import ece, ece_band
from services.common.serving.modelpack import Metric
from services.common.vision.overlay import Kind, OverlayItem, draw_overlay

HEAD = ("what", "value", "95 % interval", "n")
_LEAST = (
    0.01  # calibrated score from which a candidate counts in the reliability figure: below are thousands of nothing
)


def stated(page: Page, metrics: list[Metric]) -> None:
    """The numbers that a manifest states."""
    page.table(HEAD, [(m.name, number(m.value), interval(*m.ci95) if m.ci95 else "–", str(m.n)) for m in metrics])


def coco(page: Page, study: Study) -> None:
    """COCO's averages and the paper's ratios, damages and parts."""
    for kind, domain in study.domains.items():
        rows = domain.coco.rows()
        if not rows:
            continue
        page.heading(f"{kind.capitalize()} masks")
        page.say(
            "COCO's mask AP (faster-coco-eval): the mean over IoU 0.5 to 0.95; small, medium and large are below 128², "
            "below 256² and above, in pixels of a photo scaled to 684,000. Intervals of AP50 stand above."
        )
        head = ("name", "n", "AP", "AP50", "AP75", "AP small (n)", "AP medium (n)", "AP large (n)")
        page.table(head, [_coco_cells(row) for row in rows])
        if kind == "damage" and any(row.name == "scratch" for row in rows):
            page.say(f"Boundary AP50 of scratches: {number(domain.coco.boundary('scratch'))}.")
        counts = np.array(domain.outcomes).reshape(-1, len(OUTCOMES)).sum(0)
        said = ", ".join(f"{name} {count}" for name, count in zip(OUTCOMES, counts, strict=True))
        page.say(
            f"As listed, matched at IoU 0.5 whatever the class: {said}. Accuracy is right / (labelled + background); "
            "precision is right / listed, recall right / labelled. Intervals resample photos."
        )
        page.table(HEAD, [(n, number(v), interval(*between), str(c)) for n, (v, c, between) in domain.ratios().items()])
    if study.part_cells:
        value, n, between = study.part_miou()
        page.say("Pixels of parts, IoU of each name over all photos, then the mean; n is photos.")
        page.table(HEAD, [("part mIoU, as listed", number(value), interval(*between), str(n))])


def _coco_cells(row: CocoRow) -> tuple[str, ...]:
    name = "whatever the name" if row.name == ANY else row.name
    sizes = [f"{number(value)} ({n})" for value, n in row.sizes.values()]
    return (name, str(row.n), number(row.ap), number(row.ap50), number(row.ap75), *sizes)


def calibration(page: Page, scores: Scores) -> None:
    """Do damage scores read as the probability of a true instance at IoU 0.5?"""
    score = np.concatenate([p.scores for p in scores.agnostic])
    hits = np.concatenate([p.hits for p in scores.agnostic])[score >= _LEAST]
    score = score[score >= _LEAST]
    if len(score) < plots.BINS:
        return
    page.heading("Calibration of damage scores")
    page.figure(plots.reliability(score, hits), f"Candidates scored {_LEAST} or more; n = {len(score)}.")
    page.say(
        f"Expected calibration error {ece(score, hits):.3f}; were these scores perfectly calibrated, it would be below "
        f"{ece_band(score):.3f} in 95 of 100 draws."
    )


def cases(page: Page, study: Study, folder: Path) -> None:
    """The photos with the best and the worst damages, drawn into `folder`: what was labelled, and what was listed."""
    if not study.cases:
        return
    folder.mkdir(parents=True, exist_ok=True)
    half = len(study.cases) // 2
    for title, some in (("Worst photos", study.cases[:half]), ("Best photos", study.cases[half:][::-1])):
        page.heading(title)
        for number_, case in enumerate(some):
            name = f"{title.split()[0].lower()}-{number_}"
            for which, items in (("labelled", _labelled(case)), ("found", _found(case))):
                (folder / f"{name}-{which}.webp").write_bytes(draw_overlay(case.pixels, items, 640))
            pictures = "".join(
                f'<img width="420" alt="{which}" src="{escape(folder.name)}/{name}-{which}.webp">'
                for which in ("labelled", "found")
            )
            page.figure(pictures, f"Left as labelled, right as listed; F1 {case.f1:.2f}.")


def _labelled(case: Case) -> list[OverlayItem]:
    return [OverlayItem((0, 0, 1, 1), name, "review", mask) for name, mask in case.truths]


def _found(case: Case) -> list[OverlayItem]:
    kind: Kind = "damage"
    return [OverlayItem(f.box, f"{f.label} {f.score:.2f}", kind, f.mask) for f in case.found]
