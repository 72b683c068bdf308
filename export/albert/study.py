"""What one pass over labelled photos tells beside AP: outcomes as listed, part pixels, best overlaps, worst photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from export.albert.coco_ap import CocoTable
from export.albert.evaluate import Truth, fit
from export.evaluation import mask_iou, match_pairs
from export.statistics import bootstrap_of
from services.common.serving.modelpack import Manifest
from services.common.vision.instances import DecodedInstance
from services.common.vision.resample import downscale
from services.common.vision.size import MEAN_PHOTO, size_class_pixels

Bools = NDArray[np.bool_]
Ratio = tuple[float, int, tuple[float, float]]  # value, n, 95 % interval
OUTCOMES = ("right", "wrong class", "missed", "background")


@dataclass
class Domain:
    """Damages or parts. `outcomes`: [right, wrong class, missed, background] of each photo, as listed."""

    coco: CocoTable
    outcomes: list[tuple[int, int, int, int]] = field(default_factory=list)

    def ratios(self) -> dict[str, Ratio]:
        """The paper's four numbers, by instances at IoU 0.5 and the listing threshold; intervals resample photos.

        paper: accuracy of a segmentation is not defined; here: right answers over everything labelled or listed.
        """
        counts = np.array(self.outcomes, np.float64).reshape(-1, 4)
        photos = np.arange(len(counts))
        measures = {"accuracy": _accuracy, "precision": _precision, "recall": _recall, "F1": _f1}
        return {
            name: (
                of(counts.sum(0)),
                int(counts[:, :3].sum()),
                bootstrap_of(lambda rows, of=of: of(counts[rows].sum(0)), photos),  # type: ignore[misc]
            )
            for name, of in measures.items()
            if len(counts)
        }


def _accuracy(c: NDArray[np.float64]) -> float:
    return float(c[0] / max(c.sum(), 1))


def _precision(c: NDArray[np.float64]) -> float:
    return float(c[0] / max(c[0] + c[1] + c[3], 1))


def _recall(c: NDArray[np.float64]) -> float:
    return float(c[0] / max(c[:3].sum(), 1))


def _f1(c: NDArray[np.float64]) -> float:
    return float(2 * c[0] / max(2 * c[0] + 2 * c[1] + c[2] + c[3], 1))


@dataclass(frozen=True)
class Case:
    """A photo to look at: a small copy, what is labelled, what is listed, and the F1 of its damages."""

    pixels: NDArray[np.uint8]
    truths: list[tuple[str, Bools]]
    found: list[DecodedInstance]
    f1: float


class Study:
    """Call it with each photo and what was decoded on it at a low threshold."""

    def __init__(self, manifest: Manifest, *, cases: int = 0) -> None:
        """`cases`: how many of the best and of the worst photos to keep."""
        supported, t = manifest.supported, manifest.thresholds
        self.listed: dict[str, float] = {"damage": t["damage"], "part": t.get("part", 0.5)}
        self.domains = {
            "damage": Domain(CocoTable(supported["damages"])),
            "part": Domain(CocoTable([*supported["parts"], *supported["coarse"]])),
        }
        self.names = {kind: list(domain.coco.names) for kind, domain in self.domains.items()}
        self.best_iou: list[tuple[str, float, int]] = []  # of each labelled damage: size, IoU, photo
        self.part_cells: list[NDArray[np.float64]] = []  # [names, 2] of each photo: cells in both, cells in either
        self.cases: list[Case] = []
        self._keep, self._photos = cases, 0

    def __call__(self, truth: Truth, found: list[DecodedInstance], grid: int) -> None:
        self._photos += 1
        if truth.damages:
            self._domain("damage", [(n, fit(m, grid)) for n, m in truth.damages], found, truth)
        if truth.parts is not None:
            truths = [(n, fit(m, grid)) for n, m in truth.parts]
            self._domain("part", truths, found, truth)
            listed = [f for f in found if f.kind == "part" and f.score >= self.listed["part"]]
            self.part_cells.append(_cells(self.names["part"], truths, listed, grid))

    def _domain(
        self,
        kind: Literal["damage", "part"],
        truths: list[tuple[str, Bools]],
        found: list[DecodedInstance],
        truth: Truth,
    ) -> None:
        domain, own = self.domains[kind], [f for f in found if f.kind == kind]
        domain.coco.add(truths, own)
        listed = [f for f in own if f.score >= self.listed[kind]]
        masks = np.array([m for _, m in truths])
        domain.outcomes.append(outcome(truths, listed, masks))
        if kind == "damage":
            iou = mask_iou(masks, np.array([f.mask for f in own]).reshape(-1, *masks.shape[1:]))
            for (_, mask), row in zip(truths, iou, strict=True):
                size = size_class_pixels(float(mask.mean()) * MEAN_PHOTO)
                self.best_iou.append((size, float(row.max(initial=0.0)), self._photos))
            if self._keep:
                self._show(
                    Case(downscale(truth.pixels, 640), truths, listed, _f1(np.array(domain.outcomes[-1], float)))
                )

    def _show(self, case: Case) -> None:
        """Keep the case if it is among the best or the worst; of equals, those with more to see."""
        self.cases = sorted([*self.cases, case], key=lambda c: (c.f1, len(c.truths) if c.f1 > 0.5 else -len(c.truths)))
        if len(self.cases) > 2 * self._keep:
            del self.cases[self._keep]

    def part_miou(self) -> Ratio:
        """Mean over part names of the IoU of all their pixels, as listed."""
        cells = np.array(self.part_cells)

        def miou(rows: NDArray[np.int64]) -> float:
            both, either = cells[rows].sum(0).T
            return float((both[either > 0] / either[either > 0]).mean())

        photos = np.arange(len(cells))
        return miou(photos), len(cells), bootstrap_of(miou, photos)


def outcome(
    truths: Sequence[tuple[str, Bools]], listed: list[DecodedInstance], masks: Bools
) -> tuple[int, int, int, int]:
    """[right, wrong class, missed, background] of one photo, matched by score at IoU 0.5 whatever the class."""
    found = np.array([f.mask for f in listed]).reshape(-1, *masks.shape[1:])
    pairs = match_pairs(np.array([f.score for f in listed]), mask_iou(found, masks))
    right = sum(listed[i].label == truths[j][0] for i, j in pairs)
    return right, len(pairs) - right, len(truths) - len(pairs), len(listed) - len(pairs)


def _cells(
    names: list[str], truths: list[tuple[str, Bools]], listed: list[DecodedInstance], grid: int
) -> NDArray[np.float64]:
    rows = []
    for name in names:
        a, b = (
            np.logical_or.reduce([np.zeros((grid, grid), bool), *masks])
            for masks in ([m for n, m in truths if n == name], [f.mask for f in listed if f.label == name])
        )
        rows.append(((a & b).sum(), (a | b).sum()))
    return np.array(rows, np.float64)
