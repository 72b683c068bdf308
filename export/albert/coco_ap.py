"""Mask AP as COCO defines it, by faster-coco-eval: AP, AP50, AP75, by size, per name and whatever the name.

Masks are compared on the segmenter's own grid, as everywhere here; sizes are those of a photo scaled to CarDD's mean,
so that they mean the same for a 224-pixel photo and a phone's (`services.common.vision.size`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from services.common.vision.instances import DecodedInstance
from services.common.vision.masks import encode
from services.common.vision.size import MEAN_PHOTO, MEDIUM, SMALL

Bools = NDArray[np.bool_]
RANGES = {"all": (0, 1e10), "small": (0, SMALL), "medium": (SMALL, MEDIUM), "large": (MEDIUM, 1e10)}
_MOST = 100  # detections of a photo that count, as COCO has it
ANY = "any"


@dataclass(frozen=True)
class CocoRow:
    """One name's mask AP; nan where nothing of it was labelled. `sizes`: (AP, labelled instances) by size."""

    name: str
    n: int
    ap: float
    ap50: float
    ap75: float
    sizes: dict[str, tuple[float, int]]


@dataclass
class CocoTable:
    """Collects photos, then measures. No result carries a `bbox`: with one, sizes would be those of boxes."""

    names: Sequence[str]
    images: list[dict[str, int]] = field(default_factory=list)
    truths: list[dict[str, object]] = field(default_factory=list)
    found: list[dict[str, object]] = field(default_factory=list)

    def add(self, truths: Sequence[tuple[str, Bools]], found: Sequence[DecodedInstance]) -> None:
        """One photo: what is labelled and what was found, masks on one grid."""
        image = len(self.images) + 1
        grid = (truths[0][1] if truths else found[0].mask).shape if truths or found else (1, 1)
        self.images.append({"id": image, "height": grid[0], "width": grid[1]})
        for name, mask in truths:
            self.truths.append(
                {**self._entry(image, name, mask), "id": len(self.truths) + 1, "iscrowd": 0, "bbox": [0, 0, 1, 1]}
            )
        for instance in sorted(found, key=lambda f: -f.score)[:_MOST]:
            self.found.append({**self._entry(image, instance.label, instance.mask), "score": instance.score})

    def _entry(self, image: int, name: str, mask: Bools) -> dict[str, object]:
        size, counts = encode(mask)
        segmentation = {"size": list(size), "counts": counts}
        area = float(mask.mean()) * MEAN_PHOTO
        return {"image_id": image, "category_id": name, "segmentation": segmentation, "area": area}

    def rows(self) -> list[CocoRow]:
        """Whatever the name first, then each name that is labelled."""
        present = [name for name in self.names if any(t["category_id"] == name for t in self.truths)]
        return [*self._measure([ANY]), *self._measure(present)]

    def boundary(self, name: str) -> float:
        """Boundary AP50 (Cheng et al. 2021) of one name: for what is thin, the outline is all there is."""
        precision = self._precision([name], "boundary")
        return _mean(precision[0, :, 0, 0, -1])

    def _measure(self, names: list[str]) -> list[CocoRow]:
        if not self.truths or not names:
            return []
        precision = self._precision(names, "segm")  # [threshold, recall, name, size, detections]
        rows = []
        for k, name in enumerate(names):
            areas = np.array([t["area"] for t in self.truths if name in (ANY, t["category_id"])], np.float64)
            sizes: dict[str, tuple[float, int]] = {}
            for a, (label, (low, high)) in enumerate(list(RANGES.items())[1:], start=1):
                count = int(((areas >= low) & (areas < high)).sum())
                sizes[label] = (_mean(precision[:, :, k, a, -1]) if count else float("nan"), count)
            whole = precision[:, :, k, 0, -1]
            rows.append(CocoRow(name, len(areas), _mean(whole), _mean(whole[0]), _mean(whole[5]), sizes))
        return rows

    def _precision(self, names: list[str], kind: str) -> NDArray[np.float64]:
        ids = {name: i + 1 for i, name in enumerate(names)}

        def numbered(entries: list[dict[str, object]]) -> list[dict[str, object]]:
            if names == [ANY]:
                return [{**e, "category_id": 1} for e in entries]
            return [{**e, "category_id": ids[str(e["category_id"])]} for e in entries if e["category_id"] in ids]

        categories = [{"id": i, "name": name} for name, i in ids.items()]
        truth = COCO({"images": self.images, "annotations": numbered(self.truths), "categories": categories})
        results = numbered(self.found)
        if not results:
            return np.zeros((10, 101, len(names), len(RANGES), 1))
        answer = truth.loadRes(results)
        for annotation, result in zip(answer.dataset["annotations"], results, strict=True):
            annotation["area"] = result["area"]  # loadRes counts cells of the grid
        judge = COCOeval_faster(truth, answer, iouType=kind)
        judge.params.areaRng = [list(limits) for limits in RANGES.values()]
        judge.params.areaRngLbl = list(RANGES)
        judge.params.maxDets = [_MOST]
        judge.evaluate()
        judge.accumulate()
        return np.asarray(judge.eval["precision"], np.float64)


def _mean(precision: NDArray[np.float64]) -> float:
    """Mean over thresholds and recalls; COCO writes -1 where nothing was labelled."""
    known = precision[precision > -1]
    return float(known.mean()) if len(known) else float("nan")
