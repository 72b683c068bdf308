"""From the segment graph's logits to instances: mask NMS, names, parts. Pure NumPy; training uses it too.

Outputs of the graph are described in docs/architecture.md. Everything here is for one photo (no batch axis).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from services.common.vision.logits import Floats, double
from services.common.vision.masks import labelled_components, mask_nms, tight_box, without_specks
from services.common.vision.parts import PartMaps, suitability
from services.common.vision.proposals import propose
from services.common.vision.vocabulary import Vocabulary

Bools = NDArray[np.bool_]

DEFAULTS: dict[str, float] = {
    "damage": 0.3,  # least score of a listed damage
    "fake": 0.5,  # least fake probability that makes a damage a fake
    "part": 0.5,  # least mean probability of a listed part
    "mask": 0.0,  # logit above which a cell belongs to a damage; a pack may have a `mask_<name>` for some names
    "nms_iou": 0.5,  # epsilon of ALBERT eq. 10
    "vote_iou": 0.5,  # least overlap of masks that vote together; at 1 each speaks for itself
    "speck": 0.03,  # least size of a detached piece of a damage, as a share of its largest piece
    "part_area": 0.0005,  # least share of the photo that a piece of a part covers
    "score_scale": 1.0,  # Platt scaling of the score's logit, fitted on the validation split
    "score_shift": 0.0,
}


@dataclass(frozen=True)
class DecodedInstance:
    """One damage, fake or part. `box` is normalised xyxy, `mask` bool [h, w] over the whole photo."""

    kind: Literal["damage", "fake", "part"]
    label: str
    score: float
    labels: list[tuple[str, float]]  # alternatives, best first
    fake_score: float
    box: tuple[float, float, float, float]
    mask: Bools
    on: list[tuple[str, float]] = field(default_factory=list)  # parts and the damage's share on them, likeliest first


def decode_instances(
    outputs: Mapping[str, Floats],
    *,
    vocabulary: Vocabulary,
    supported: Mapping[str, Sequence[str]],
    thresholds: Mapping[str, float],
) -> list[DecodedInstance]:
    """Damages and fakes by score, then parts.

    `supported` masks names that no photo taught; thresholds that are missing are those of DEFAULTS.
    """
    t = {**DEFAULTS, **thresholds}
    parts = PartMaps.of(outputs["part_logits"], 2 * outputs["mask_logits"].shape[1], vocabulary, supported)
    return [*_damages(outputs, parts, vocabulary, supported, t), *_parts(parts, vocabulary, t)]


def _damages(
    outputs: Mapping[str, Floats],
    parts: PartMaps,
    vocabulary: Vocabulary,
    supported: Mapping[str, Sequence[str]],
    t: Mapping[str, float],
) -> list[DecodedInstance]:
    proposals = propose(outputs, parts, vocabulary, supported, t)
    score = proposals.scores(t)
    listed = score >= t["damage"]
    if not listed.any():
        return []
    at, score = np.flatnonzero(listed), score[listed]
    masks = double(proposals.logits[at]) > proposals.least[at][:, None, None]
    kept = [int(i) for i in mask_nms(masks, score, t["nms_iou"]) if masks[i].any()]
    at, score = at[kept], score[kept]
    # A few stray cells far away would stretch the box, and the crop.
    whole = [without_specks(masks[i], t["speck"]) for i in kept]
    names, p_damage, p_fake = proposals.names, proposals.p_damage[at], proposals.p_fake[at]
    on = parts.places(np.array(whole, bool), p_damage @ suitability(vocabulary, names, parts.names))
    fakes = [(i, f.name) for i, f in enumerate(vocabulary.fakes) if f.name in supported.get("fakes", ())]
    found = []
    for i, mask in enumerate(whole):
        ranked = sorted(zip(names, p_damage[i].tolist(), strict=True), key=lambda n: -n[1])
        fake = max(((name, float(p_fake[i, j])) for j, name in fakes), key=lambda n: n[1], default=("", 0.0))
        is_fake = fake[1] >= t["fake"]
        labels = [fake] if is_fake else ranked[:5]
        if not labels:  # no photo taught this pack the name of any damage
            continue
        kind: Literal["damage", "fake"] = "fake" if is_fake else "damage"
        found.append(
            DecodedInstance(kind, labels[0][0], float(score[i]), labels, fake[1], tight_box(mask), mask, on[i])
        )
    return found


def _parts(parts: PartMaps, vocabulary: Vocabulary, t: Mapping[str, float]) -> list[DecodedInstance]:
    names, p = parts.names, parts.probabilities
    if not names:
        return []
    highest = p.max(0)
    best = np.full(highest.shape, -1)
    seen = 1 - p.sum(0) <= highest
    for i in reversed(range(len(names))):  # the first of equals; NumPy's argmax over the first axis takes far longer
        best[seen & (p[i] == highest)] = i
    coarse = {c.name for c in vocabulary.coarse}
    found = []
    for i, (name, pieces) in enumerate(zip(names, labelled_components(best, len(names), t["part_area"]), strict=True)):
        # A coarse name ("wheel") stands for several things; a fine part is one thing, however much hides it.
        whole = pieces if name in coarse else ([np.logical_or.reduce(pieces)] if pieces else [])
        for mask in whole:
            score = float(p[i][mask].mean())
            if score >= t["part"]:
                found.append(DecodedInstance("part", name, score, [(name, score)], 0.0, tight_box(mask), mask))
    return sorted(found, key=lambda f: -f.score)
