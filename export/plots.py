"""The report's figures, each as SVG text."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BINS = 10

mpl.rcParams["svg.hashsalt"] = "claimsight"  # the same numbers give the same file
mpl.rcParams["svg.fonttype"] = "none"  # letters stay text: smaller, and they can be searched


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def matrix(values: NDArray[np.generic], rows: Sequence[str], columns: Sequence[str], form: str = "{:.2f}") -> str:
    """A table of numbers whose shade is each number's share of its row: confusion, experts by class."""
    figure = Figure(figsize=(1.1 * len(columns) + 1.8, 0.5 * len(rows) + 1.2))
    axes = figure.subplots()
    share = np.asarray(values, np.float64) / np.maximum(np.asarray(values, np.float64).sum(1, keepdims=True), 1e-9)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.xaxis.tick_top()
    for (r, c), value in np.ndenumerate(values):
        axes.text(c, r, form.format(value), ha="center", va="center", color="white" if share[r, c] > 0.6 else "black")
    return _svg(figure)


def gates(values: NDArray[np.float32], labels: Ints, names: Sequence[str]) -> str:
    """How the gates [n, E] of each expert are distributed in each class: one panel a class, one box an expert."""
    seen = [c for c in range(len(names)) if (labels == c).any()]
    figure = Figure(figsize=(2.3 * len(seen), 2.6))
    for panel, c in zip(np.atleast_1d(figure.subplots(1, len(seen), sharey=True)), seen, strict=True):
        panel.boxplot(values[labels == c], showfliers=False, medianprops={"color": "#0b5cad"})
        panel.set_xticks(range(1, values.shape[1] + 1), [f"E{i + 1}" for i in range(values.shape[1])])
        panel.set_title(f"{names[c]}, n = {(labels == c).sum()}", fontsize=9)
        panel.set_ylim(0, 1)
    return _svg(figure)


def reliability(confidence: Floats, hits: NDArray[np.bool_]) -> str:
    """Accuracy over confidence in ten bins of equal count, with the 95 % band of a perfectly calibrated model."""
    parts = [p for p in np.array_split(np.argsort(confidence), BINS) if len(p)]
    rng = np.random.default_rng(0)
    at = np.array([confidence[p].mean() for p in parts])
    draws = np.array([(rng.random((500, len(p))) < confidence[p]).mean(1) for p in parts])
    low, high = np.quantile(draws, [0.025, 0.975], axis=1)
    figure = Figure(figsize=(4.6, 4.2))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#9aa4ae", lw=1)
    axes.fill_between(at, low, high, color="#cfe3f7", label="95 % of calibrated models")
    axes.plot(at, [hits[p].mean() for p in parts], "o-", color="#0b5cad", label="measured")
    for x, p in zip(at, parts, strict=True):
        axes.annotate(str(len(p)), (x, 0.02), fontsize=7, ha="center", color="#57606a")
    axes.set(xlabel="confidence (n of each bin at the foot)", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    return _svg(figure)


def risk_coverage(curves: dict[str, tuple[Floats, NDArray[np.bool_]]], points: dict[str, tuple[float, float]]) -> str:
    """Share of wrong answers among those taken, over the share taken, as the threshold falls.

    `curves`: confidence [n] and hits [n] by name. `points`: coverage and risk of operating points by name.
    """
    figure = Figure(figsize=(5.4, 3.8))
    axes = figure.subplots()
    for name, (confidence, hits) in curves.items():
        order = np.argsort(-confidence, kind="stable")
        taken = np.arange(1, len(order) + 1)
        axes.plot(taken / len(order), np.cumsum(~hits[order]) / taken, label=name)
    for name, (coverage, risk) in points.items():
        axes.plot([coverage], [risk], "D", ms=6, label=name)
    axes.set(xlabel="coverage: answered without review", ylabel="risk: wrong among them", xlim=(0, 1), ylim=(0, None))
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure)
