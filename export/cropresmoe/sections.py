"""The report's sections: what they show of answers that were measured elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from export import plots
from export.cropresmoe import results
from export.cropresmoe.evaluate import Answers, Measured, Memory, with_fallback
from export.page import Page, interval, number
from export.statistics import bootstrap_mean, bootstrap_of, class_rows, confusion
from services.common.serving.modelpack import Manifest

HEAD = ("what", "value", "95 % interval", "n")


def classes(page: Page, a: Answers, names: list[str]) -> None:
    """Per class with intervals, and the confusion matrix."""
    page.heading("Classes")
    rows = []
    for r in class_rows(a.probabilities, a.labels, names):
        cells = [r.name, str(r.n)]
        for field in ("precision", "recall", "f1", "average_precision"):
            low, high = bootstrap_of(_of_class(a, names, r.name, field), a.image, rounds=100)
            cells.append(f"{getattr(r, field):.3f} ({interval(low, high)})")
        rows.append(cells)
    page.table(("class", "n", "precision", "recall", "F1", "AP"), rows)
    seen = [c for c in range(len(names)) if (a.labels == c).any()]
    counts = confusion(a.probabilities, a.labels, len(names))[np.ix_(seen, seen)]
    said = [names[c] for c in seen]
    page.figure(
        plots.matrix(counts, said, said, "{:d}"), f"Rows are the truth, columns the answer; n = {counts.sum()}."
    )


def _of_class(a: Answers, names: list[str], name: str, field: str) -> Callable[[NDArray[np.int64]], float]:
    def measure(rows: NDArray[np.int64]) -> float:
        found = {r.name: r for r in class_rows(a.probabilities[rows], a.labels[rows], names)}
        return float(getattr(found[name], field)) if name in found else float("nan")

    return measure


def experts(page: Page, a: Answers, names: list[str]) -> None:
    """The paper's figures 10 to 12: experts by class, gate distributions; entropy and load."""
    page.heading("Experts")
    seen = [c for c in range(len(names)) if (a.labels == c).any()]
    columns = [f"E{i + 1}" for i in range(a.gates.shape[1])]
    mean = np.array([a.gates[a.labels == c].mean(0) for c in seen])
    page.figure(
        plots.matrix(mean, [f"{names[c]} ({(a.labels == c).sum()})" for c in seen], columns),
        "Mean gate of each expert by true class (n). What an expert prefers is measured here, not designed.",
    )
    page.figure(plots.gates(a.gates, a.labels, names), "Distribution of the gates in each class.")
    entropy = -(a.gates * np.log(np.maximum(a.gates, 1e-9))).sum(1) / np.log(max(a.gates.shape[1], 2))
    n, rows = str(len(entropy)), []
    loads = zip([f"load of {c}" for c in columns], a.gates.T, strict=True)
    for name, values in (("gate entropy, 1 is even", entropy), *loads):
        rows.append((name, number(float(values.mean())), interval(*bootstrap_mean(values, a.image)), n))
    page.table(HEAD, rows)


def calibration(page: Page, m: Measured, manifest: Manifest) -> None:
    """Reliability, and risk over coverage with the served thresholds beside the tuned ones."""
    page.heading("Calibration")
    a, t = m.answers, manifest.thresholds
    top = a.probabilities.max(1)
    page.say(f"Temperature {manifest.temperature:g}, fitted on validation crops. NLL, Brier and ECE: above.")
    page.figure(plots.reliability(top, a.hits), f"Reliability on n = {len(top)}; ten bins of equal count.")
    right, final = m.final.argmax(1) == a.labels, m.final.max(1)
    points = {f"served: tau {t['tau']:g}, lambda {t['lambda']:g}": _point(np.array(m.outcome) != "review", right)}
    if "tuned.tau" in t:
        label = f"tuned tau {t['tuned.tau']:g} (tuned lambda {t['tuned.lambda']:g}, k {t['tuned.k']:g})"
        points[label] = _point(final > t["tuned.tau"], right)
    page.figure(
        plots.risk_coverage({"model alone": (top, a.hits), "with the fallback": (final, right)}, points),
        "How many answers are wrong among those that are given without review, as tau falls from left to right.",
    )
    rows = [(name, number(coverage), number(risk), str(len(top))) for name, (coverage, risk) in points.items()]
    page.table(("thresholds", "coverage", "risk", "n"), rows)


def _point(taken: NDArray[np.bool_], right: NDArray[np.bool_]) -> tuple[float, float]:
    return float(taken.mean()), float((~right[taken]).mean()) if taken.any() else 0.0


def fallback(page: Page, sets: dict[str, Answers], memory: Memory, manifest: Manifest) -> None:
    """Off and on, on every kind of box, and what it changes on the unsure slice."""
    page.heading("Boxes, and the fallback off and on")
    rows = []
    for name, a in sets.items():
        final, _ = with_fallback(a, memory, manifest)
        right = final.argmax(1) == a.labels
        unsure = a.probabilities.max(1) <= manifest.thresholds["tau"]
        change = right.astype(float) - a.hits
        for what, values, which in (
            ("accuracy, fallback off", a.hits, np.ones(len(right), bool)),
            ("accuracy, fallback on", right, np.ones(len(right), bool)),
            ("change on the uncertain slice (paired)", change, unsure),
        ):
            if which.any():
                between = interval(*bootstrap_mean(values[which], a.image[which]))
                rows.append((f"{name}: {what}", number(float(values[which].mean())), between, str(which.sum())))
    page.table(HEAD, rows)


_TITLES = {
    "ablation": "RawMoE, ResMoE-50, CropResMoE-50",
    "frozen": "Frozen and unfrozen backbones",
    "focal": "Focal loss: alpha and gamma",
}


def comparison(page: Page, table: str, rows: list[results.Result]) -> None:
    page.heading(_TITLES[table])
    if not rows:
        page.say("No rows were given (--results).")
        return
    page.table(
        (
            "model",
            "samples",
            "split",
            "n",
            "accuracy",
            "95 % interval",
            "macro F1",
            "macro AP",
            "AP by size",
            "training",
        ),
        [
            (
                r.name,
                r.samples,
                r.split,
                str(r.n),
                number(r.accuracy),
                interval(r.low, r.high),
                number(r.macro_f1),
                number(r.macro_ap),
                " / ".join(f"{size} {ap:.3f}" for size, ap in r.ap_by_size.items()),
                r.training,
            )
            for r in rows
        ],
    )
    page.say("; ".join(dict.fromkeys(f"{r.command} ({r.date})" for r in rows)))
