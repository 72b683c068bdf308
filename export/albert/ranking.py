"""How much each signal counts in a damage's score: a logistic regression on validation photos."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from export.albert.calibrate import logistic
from export.albert.evaluate import Predict, Truth, fit, stacked
from export.evaluation import mask_iou
from services.common.serving.modelpack import Manifest
from services.common.vision.instances import DEFAULTS
from services.common.vision.logits import double
from services.common.vision.masks import mask_nms
from services.common.vision.parts import PartMaps
from services.common.vision.proposals import SIGNALS, propose
from services.common.vision.resample import resize

Floats = NDArray[np.float64]
_APART = 0.7  # overlap from which a weaker mask is left out: near-copies would count one answer many times
_RIDGE = 1.0  # on standardised signals


def fit_ranking(
    predict: Predict, truths: Iterable[Truth], manifest: Manifest, thresholds: Mapping[str, float]
) -> dict[str, float]:
    """`rank_<signal>` and `rank_constant` for the pack: a mask is right when it meets a labelled one at IoU 0.5."""
    found = [_candidates(predict, truth, manifest, {**DEFAULTS, **thresholds}) for truth in truths]
    return weights(np.concatenate([x for x, _ in found]), np.concatenate([hits for _, hits in found]))


def weights(signals: Floats, hits: NDArray[np.bool_]) -> dict[str, float]:
    """The regression of `hits` [n] on `signals` [n, len(SIGNALS)], in the signals' own units."""
    mean, scale = signals.mean(0), signals.std(0) + 1e-6
    x = np.column_stack([(signals - mean) / scale, np.ones(len(signals))])
    *standard, constant = logistic(x, hits.astype(np.float64), ridge=_RIDGE)
    own = np.asarray(standard) / scale
    named = {f"rank_{name}": round(float(w), 5) for name, w in zip(SIGNALS, own, strict=True)}
    return {**named, "rank_constant": round(float(constant - own @ mean), 5)}


def _candidates(
    predict: Predict, truth: Truth, manifest: Manifest, t: Mapping[str, float]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Signals [n, len(SIGNALS)] of the masks on one photo that are not copies of a surer one, and which are right."""
    outputs = predict(resize(truth.pixels, manifest.input.height, manifest.input.width))
    grid = 2 * outputs["mask_logits"].shape[1]
    parts = PartMaps.of(outputs["part_logits"], grid, manifest.vocabulary, manifest.supported)
    proposals = propose(outputs, parts, manifest.vocabulary, manifest.supported, t)
    masks = double(proposals.logits) > proposals.least[:, None, None]
    kept = [int(i) for i in mask_nms(masks, proposals.scores(t), _APART) if masks[i].any()]
    iou = mask_iou(stacked([masks[i] for i in kept], grid), stacked([fit(m, grid) for _, m in truth.damages], grid))
    return proposals.signals[kept].astype(np.float64), iou.max(1, initial=0) >= 0.5
