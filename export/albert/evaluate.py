"""Scores of a segmenter on labelled photos: damage and part masks as COCO counts them, false alarms, with intervals.

Everything goes through the serving code (`decode_instances`), so what is measured is what is served. Masks are compared
on the segmenter's own output grid over the whole photo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from export.evaluation import Matches, average_precision, bootstrap, mask_iou, match
from export.statistics import bootstrap_mean
from services.common.serving.modelpack import Manifest
from services.common.vision.instances import DecodedInstance, decode_instances
from services.common.vision.resample import resize
from services.common.vision.vocabulary import Vocabulary

Bools = NDArray[np.bool_]
Pixels = NDArray[np.uint8]
Predict = Callable[[Pixels], Mapping[str, NDArray[np.float32]]]  # uint8 [S, S, 3] -> the graph's outputs for one photo

LISTED = {"damage": 0.001, "part": 0.05, "fake": 2.0}  # AP wants everything; a fake above 1 calls nothing a fake


@dataclass(frozen=True)
class Truth:
    """One labelled photo. Masks are at any size; `parts` is None where parts are not annotated."""

    pixels: Pixels
    damages: list[tuple[str, Bools]]  # served damage name, mask
    parts: list[tuple[str, Bools]] | None = None  # served part name, mask
    undamaged: bool = False
    primer: bool = False  # a sanded or primed panel: no damage, and easily taken for one


Watch = Callable[[Truth, list[DecodedInstance], int], None]


@dataclass
class Scores:
    """Matches by name. `false_alarms`: the scores of all damages found on undamaged cars, photo by photo; `primer`: on
    photos of primer patches."""

    agnostic: list[Matches] = field(default_factory=list)
    damages: dict[str, list[Matches]] = field(default_factory=dict)
    parts: dict[str, list[Matches]] = field(default_factory=dict)
    false_alarms: list[NDArray[np.float64]] = field(default_factory=list)
    primer: list[NDArray[np.float64]] = field(default_factory=list)

    def table(self, listed: float) -> dict[str, tuple[float, int, tuple[float, float] | None]]:
        """name -> (value, n, 95 % interval): n is instances for AP, photos for false alarms.

        `listed`: the score from which the pack lists a damage. False alarms are counted there, and at the score that
        finds 0.6 of the damages where there is one.
        """
        rows: dict[str, tuple[float, int, tuple[float, float] | None]] = {}
        if self.agnostic:
            rows["damage mask AP50, class-agnostic"] = _row(self.agnostic)
            for name, photos in self.damages.items():
                rows[f"damage mask AP50: {name}"] = _row(photos)
            rows["damage mask mAP50 over classes"] = _mean(self.damages)
        if self.parts:
            for name, photos in self.parts.items():
                rows[f"part mask AP50: {name}"] = _row(photos)
            rows["part mask mAP50 over classes"] = _mean(self.parts)
        if self.primer:
            rows["false damages per photo of a primer patch, as listed"] = _alarms(self.primer, listed)
        if self.false_alarms and self.agnostic:
            rows["false damages per undamaged photo, as listed"] = _alarms(self.false_alarms, listed)
            at = score_at_recall(self.agnostic, 0.6)
            if at is not None:
                rows["false damages per undamaged photo at 0.6 recall"] = _alarms(self.false_alarms, at)
        return rows


def _alarms(photos: list[NDArray[np.float64]], at: float) -> tuple[float, int, tuple[float, float]]:
    """Mean number of scores at or above `at` a photo."""
    alarms = np.array([(scores >= at).sum() for scores in photos], np.float64)
    low, high = bootstrap_mean(alarms, np.arange(len(alarms)))
    return float(alarms.mean()), len(alarms), (low, high)


def _row(photos: list[Matches]) -> tuple[float, int, tuple[float, float] | None]:
    return average_precision(photos), sum(p.truths for p in photos), bootstrap(photos)


def _mean(groups: Mapping[str, list[Matches]]) -> tuple[float, int, tuple[float, float] | None]:
    """Mean AP over names that occur, resampling the same photos for all of them."""
    present = [photos for photos in groups.values() if sum(p.truths for p in photos)]
    if not present:
        return float("nan"), 0, None
    rng = np.random.default_rng(0)
    count = len(present[0])
    draws = []
    for _ in range(200):
        index = rng.integers(0, count, count)
        draws.append(np.nanmean([average_precision([photos[i] for i in index]) for photos in present]))
    value = float(np.mean([average_precision(photos) for photos in present]))
    low, high = np.quantile(draws, [0.025, 0.975])
    return value, sum(p.truths for photos in present for p in photos), (float(low), float(high))


def score_at_recall(photos: list[Matches], recall: float) -> float | None:
    """The highest score threshold whose recall reaches `recall`, or None."""
    scores = np.concatenate([p.scores for p in photos])
    hits = np.concatenate([p.hits for p in photos])[np.argsort(-scores, kind="stable")]
    reached = np.cumsum(hits) >= recall * sum(p.truths for p in photos)
    return float(np.sort(scores)[::-1][int(reached.argmax())]) if reached.any() else None


def evaluate(
    predict: Predict,
    truths: Iterable[Truth],
    *,
    size: int,
    vocabulary: Vocabulary,
    supported: Mapping[str, list[str]],
    thresholds: Mapping[str, float],
    watch: Watch | None = None,
) -> Scores:
    """Run `predict` on every photo (stretched to `size`) and match what `decode_instances` makes of it.

    `watch` is shown each photo too, with what was found at the lowest thresholds and the side of the masks' grid.
    """
    scores = Scores(
        damages={n: [] for n in supported["damages"]},
        parts={n: [] for n in [*supported["parts"], *supported["coarse"]]},
    )
    for truth in truths:
        outputs = predict(resize(truth.pixels, size, size))
        found = decode_instances(
            outputs, vocabulary=vocabulary, supported=supported, thresholds={**thresholds, **LISTED}
        )
        grid = 2 * outputs["mask_logits"].shape[1]
        damages = [f for f in found if f.kind == "damage"]
        if watch is not None:
            watch(truth, found, grid)
        if truth.primer:
            scores.primer.append(np.array([f.score for f in damages], np.float64))
        elif truth.undamaged:
            scores.false_alarms.append(np.array([f.score for f in damages], np.float64))
        elif truth.damages:
            _match_damages(scores, damages, truth, grid)
        if truth.parts is not None:
            _match_parts(scores, [f for f in found if f.kind == "part"], truth.parts, grid)
    return scores


def real_fake_scores(
    predict: Predict, truths: Iterable[Truth], manifest: Manifest, thresholds: Mapping[str, float]
) -> NDArray[np.float64]:
    """How much real damages [n] look like fakes: the fake score of the instance that answers for each labelled one."""
    values: list[float] = []
    for truth in truths:
        if not truth.damages:
            continue
        outputs = predict(resize(truth.pixels, manifest.input.height, manifest.input.width))
        found = decode_instances(
            outputs,
            vocabulary=manifest.vocabulary,
            supported=manifest.supported,
            thresholds={**manifest.thresholds, **thresholds, "damage": 0.05, "fake": 2.0},
        )
        damages = [f for f in found if f.kind == "damage"]
        grid = 2 * outputs["mask_logits"].shape[1]
        iou = mask_iou(
            stacked([fit(m, grid) for _, m in truth.damages], grid), stacked([f.mask for f in damages], grid)
        )
        values += [damages[int(row.argmax())].fake_score for row in iou if len(row) and row.max() >= 0.3]
    return np.array(values)


def _match_damages(scores: Scores, found: list[DecodedInstance], truth: Truth, grid: int) -> None:
    iou = mask_iou(stacked([f.mask for f in found], grid), stacked([fit(m, grid) for _, m in truth.damages], grid))
    value = np.array([f.score for f in found], np.float64)
    scores.agnostic.append(match(value, iou))
    for name, photos in scores.damages.items():
        a = [i for i, f in enumerate(found) if f.label == name]
        b = [i for i, (label, _) in enumerate(truth.damages) if label == name]
        photos.append(match(value[a], iou[np.ix_(a, b)]))


def _match_parts(scores: Scores, found: list[DecodedInstance], truth: list[tuple[str, Bools]], grid: int) -> None:
    for name, photos in scores.parts.items():
        ours = [f for f in found if f.label == name]
        theirs = [fit(m, grid) for label, m in truth if label == name]
        iou = mask_iou(stacked([f.mask for f in ours], grid), stacked(theirs, grid))
        photos.append(match(np.array([f.score for f in ours], np.float64), iou))


def stacked(masks: list[Bools], grid: int) -> Bools:
    """bool [n, grid, grid], also for no masks."""
    return np.array(masks, bool).reshape(-1, grid, grid)


def fit(mask: Bools, grid: int) -> Bools:
    """A truth mask on the output grid: a cell is inside when most of it is."""
    picture = np.repeat(np.asarray(mask, np.uint8)[..., None] * 255, 3, 2)
    small = resize(picture, grid, grid)[..., 0]
    # A scratch thinner than half a cell must not vanish: fall back to any coverage.
    return small > 127 if (small > 127).any() else small > 0
