"""How like two graphs of one pack answer the same rows, read the way serving reads them.

Logits alone do not tell: an error of 5 % can be nothing or another damage. So labels, listed instances and masks are
compared, and logits only where their order means something.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from export.convert.to_onnx import session
from export.cropresmoe.evaluate import supported_mask
from export.evaluation import mask_iou
from services.common.serving.modelpack import Manifest
from services.common.vision.instances import DecodedInstance, decode_instances
from services.common.vision.vote import calibrated

Outputs = dict[str, NDArray[np.float32]]


class ParityError(RuntimeError):
    """The converted graph answers too differently. The message says in what, and how far it may be."""


@dataclass(frozen=True)
class Agreement:
    """Means over rows; 1 is the same for `kept` and `iou`, 0 for `flips` and `logits`."""

    kept: float  # instances listed by both (mask IoU >= 0.5, same kind), as F1; 1 for crops
    iou: float  # mean mask IoU of those; 1 for crops
    flips: float  # share of those, or of the crops, whose label changed
    logits: float  # relative error (norm of the difference over norm) of the worst output whose order is fixed

    def must_hold(self, limits: Agreement) -> None:
        """Raises ParityError naming the first measure that is worse than `limits`."""
        for measure in fields(self):
            value, limit = getattr(self, measure.name), getattr(limits, measure.name)
            if not (value >= limit if measure.name in ("kept", "iou") else value <= limit):
                raise ParityError(f"{measure.name} is {value:.4f}; the limit is {limit:g}. Nothing was written.")


LIMITS = {
    "fp16": Agreement(kept=0.97, iou=0.95, flips=0.01, logits=0.02),
    # Eight bits move what lies on a threshold. What that costs in accuracy is measured by export.convert.compare.
    "int8": Agreement(kept=0.9, iou=0.85, flips=0.05, logits=0.2),
}


def agreement(manifest: Manifest, before: bytes, after: bytes, rows: NDArray[np.uint8]) -> Agreement:
    """Compare two graphs of a segment or classify pack on `rows` (uint8 [n, h, w, 3]), on the plain CPU provider."""
    pairs = list(zip(_answers(before, rows), _answers(after, rows), strict=True))
    if manifest.task == "classify":
        return _crops(manifest, pairs)
    return _photos(manifest, pairs)


def _answers(graph: bytes, rows: NDArray[np.uint8]) -> list[Outputs]:
    """Row by row: {output: array without batch axis}."""
    runner = session(graph)
    names, given = [o.name for o in runner.get_outputs()], runner.get_inputs()[0].name
    return [
        {name: array[0] for name, array in zip(names, runner.run(names, {given: row[None]}), strict=True)}
        for row in rows
    ]


def _crops(manifest: Manifest, pairs: list[tuple[Outputs, Outputs]]) -> Agreement:
    masked = supported_mask(manifest)
    labels = [[int(calibrated(o["logits"], 1.0, masked).argmax()) for o in pair] for pair in pairs]
    off = max(_relative(pairs, name) for name in ("logits", "gates", "embedding"))
    return Agreement(kept=1.0, iou=1.0, flips=float(np.mean([a != b for a, b in labels])), logits=off)


def _photos(manifest: Manifest, pairs: list[tuple[Outputs, Outputs]]) -> Agreement:
    listed, both, flips = 0, 0, 0
    overlaps: list[float] = []
    for before, after in pairs:
        a, b = _decoded(manifest, before), _decoded(manifest, after)
        listed += len(a) + len(b)
        for x, y, iou in matched(a, b):
            both += 1
            overlaps.append(iou)
            flips += x.label != y.label
    return Agreement(
        kept=2 * both / listed if listed else 1.0,
        iou=float(np.mean(overlaps)) if overlaps else 1.0,
        flips=flips / both if both else 0.0,
        logits=max(_relative(pairs, name) for name in ("part_logits", "damaged_logits")),
    )


def matched(a: list[DecodedInstance], b: list[DecodedInstance]) -> list[tuple[DecodedInstance, DecodedInstance, float]]:
    """Pairs of one kind whose masks overlap at IoU >= 0.5, the most alike first, each instance at most once."""
    if not a or not b:
        return []
    iou = mask_iou(np.array([i.mask for i in a]), np.array([i.mask for i in b]))
    iou *= np.array([[x.kind == y.kind for y in b] for x in a])
    pairs = []
    while iou.max() >= 0.5:
        r, c = np.unravel_index(iou.argmax(), iou.shape)
        pairs.append((a[int(r)], b[int(c)], float(iou[r, c])))
        iou[r], iou[:, c] = 0, 0
    return pairs


def _decoded(manifest: Manifest, outputs: Outputs) -> list[DecodedInstance]:
    return decode_instances(
        outputs, vocabulary=manifest.vocabulary, supported=manifest.supported, thresholds=manifest.thresholds
    )


def _relative(pairs: list[tuple[Outputs, Outputs]], name: str) -> float:
    return float(np.mean([np.linalg.norm(a[name] - b[name]) / np.linalg.norm(a[name]) for a, b in pairs]))
