"""From the segment graph's logits to instances: scores, mask NMS, names, parts. Pure NumPy; training uses it too.

Outputs of the graph are described in docs/architecture.md. Everything here is for one photo (no batch axis).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from services.common.vision.masks import labelled_components, mask_nms, overlap, tight_box, without_specks
from services.common.vision.vocabulary import Vocabulary

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

DEFAULTS: dict[str, float] = {
    "damage": 0.3,  # least score of a listed damage
    "fake": 0.5,  # least fake probability that makes a damage a fake
    "part": 0.5,  # least mean probability of a listed part
    "mask": 0.0,  # logit above which a cell belongs to a damage
    "nms_iou": 0.5,  # epsilon of ALBERT eq. 10
    "vote_iou": 0.5,  # least overlap of masks that vote together; at 1 each speaks for itself
    "speck": 0.03,  # least size of a detached piece of a damage, as a share of its largest piece
    "part_area": 0.0005,  # least share of the photo that a piece of a part covers
    "score_scale": 1.0,  # Platt scaling of the score's logit, fitted on the validation split
    "score_shift": 0.0,
}
_VOTERS = 100  # queries per photo, the surest; the rest say nothing


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


def sigmoid(x: Floats) -> Floats:
    """Logistic function that does not overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)), np.float32)


def softmax(x: Floats, axis: int = -1) -> Floats:
    e = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(e / e.sum(axis, keepdims=True), np.float32)


def double(maps: Floats) -> Floats:
    """Bilinear upsampling by two of [n, h, w] -> [n, 2h, 2w] (pixel centres, edges repeated)."""
    for axis in (1, 2):
        before = np.concatenate([maps.take([0], axis), maps], axis).take(range(maps.shape[axis]), axis)
        after = np.concatenate([maps, maps.take([-1], axis)], axis).take(range(1, maps.shape[axis] + 1), axis)
        even, odd = 0.75 * maps + 0.25 * before, 0.75 * maps + 0.25 * after
        shape = list(maps.shape)
        shape[axis] *= 2
        maps = np.stack([even, odd], axis + 1).reshape(shape)
    return np.asarray(maps, np.float32)


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
    height = 2 * outputs["mask_logits"].shape[1]
    parts = _parts(outputs["part_logits"], height, vocabulary, supported, t)
    return [*_damages(outputs, vocabulary, supported, t), *parts]


def scores(outputs: Mapping[str, Floats]) -> Floats:
    """Query scores [n] before any vote: predicted mask IoU times the root of objectness.

    The predicted IoU has seen what lies inside the mask and orders queries better than objectness does; both together
    order them best.
    """
    return np.asarray(np.sqrt(sigmoid(outputs["objectness"])) * sigmoid(outputs["iou"]), np.float32)


def vote(logits: Floats, score: Floats, t: Mapping[str, float]) -> tuple[Floats, Floats]:
    """What queries that draw about the same mask say together: mask logits [n, h, w] and scores [n].

    Dense queries answer for a damage several at a time, and agreement is evidence. Each mask becomes the mean of those
    that overlap it by `vote_iou` or more, weighted by score and IoU; its score is the noisy-or of these weights.
    A query that nobody agrees with stays as it is. (Box voting, Gidaris and Komodakis 2015, for masks.)
    """
    masks = logits > t["mask"]
    both = overlap(masks, masks)
    area = both.diagonal()
    iou = both / np.maximum(area[:, None] + area[None] - both, 1)
    np.fill_diagonal(iou, 1)
    weight = np.where(iou >= min(t["vote_iou"], 1), iou, 0) * np.clip(score, 1e-6, 1 - 1e-6)[None]
    mixed = weight @ logits.reshape(len(logits), -1) / weight.sum(1)[:, None]
    together = -np.expm1(np.log1p(-weight).sum(1))
    return np.asarray(mixed.reshape(logits.shape), np.float32), np.asarray(together, np.float32)


def platt(score: Floats, t: Mapping[str, float]) -> Floats:
    """Scores as the probability of a true instance at IoU 0.5: Platt scaling of their logit."""
    p = np.clip(np.asarray(score, np.float64), 1e-6, 1 - 1e-6)
    return sigmoid(np.asarray(np.log(p / (1 - p)) * t["score_scale"] + t["score_shift"], np.float32))


def _damages(
    outputs: Mapping[str, Floats],
    vocabulary: Vocabulary,
    supported: Mapping[str, Sequence[str]],
    t: Mapping[str, float],
) -> list[DecodedInstance]:
    raw = scores(outputs)
    order = np.argsort(-raw, kind="stable")[:_VOTERS]
    logits, together = vote(outputs["mask_logits"][order], raw[order], t)
    score = platt(together, t)
    listed = score >= t["damage"]
    if not listed.any():
        return []
    order, score = order[listed], score[listed]
    masks = double(logits[listed]) > t["mask"]
    kept = [int(i) for i in mask_nms(masks, score, t["nms_iou"]) if masks[i].any()]
    names, pooling = pooled_damages(vocabulary, supported.get("damages", ()))
    p_damage = softmax(outputs["damage_logits"][order]) @ pooling
    p_fake = sigmoid(outputs["fake_logits"][order])
    fakes = [(i, f.name) for i, f in enumerate(vocabulary.fakes) if f.name in supported.get("fakes", ())]
    found = []
    for i in kept:
        ranked = sorted(zip(names, p_damage[i].tolist(), strict=True), key=lambda n: -n[1])
        fake = max(((name, float(p_fake[i, j])) for j, name in fakes), key=lambda n: n[1], default=("", 0.0))
        is_fake = fake[1] >= t["fake"]
        labels = [fake] if is_fake else ranked[:5]
        if not labels:  # no photo taught this pack the name of any damage
            continue
        mask = without_specks(masks[i], t["speck"])  # a few stray cells far away would stretch the box, and the crop
        kind: Literal["damage", "fake"] = "fake" if is_fake else "damage"
        found.append(DecodedInstance(kind, labels[0][0], float(score[i]), labels, fake[1], tight_box(mask), mask))
    return found


def pooled_damages(vocabulary: Vocabulary, supported: Sequence[str]) -> tuple[list[str], Floats]:
    """Supported damage names and the matrix [D, n] that sums probabilities into them.

    A coarse source label ("broken or missing part") trains the sum of several names and cannot tell them apart; the
    unsupported ones lend their probability to the supported name that means the same classifier classes.
    """
    names = [d.name for d in vocabulary.damages if d.name in supported]
    agrees = {d.name: d.agrees for d in vocabulary.damages}
    pooling = np.zeros((len(vocabulary.damages), len(names)), np.float32)
    for i, d in enumerate(vocabulary.damages):
        for j, name in enumerate(names):
            if d.name == name or (d.name not in names and agrees[name] == d.agrees):
                pooling[i, j] = 1
    return names, pooling


def part_groups(vocabulary: Vocabulary, supported: Mapping[str, Sequence[str]]) -> tuple[list[str], Floats]:
    """Served part names (fine, then coarse) and the matrix [n, 1 + P] that sums fine probabilities into them."""
    ids = {p.name: i + 1 for i, p in enumerate(vocabulary.parts)}
    fine = [p.name for p in vocabulary.parts if p.name in supported.get("parts", ())]
    coarse = {c.name: c.members for c in vocabulary.coarse if c.name in supported.get("coarse", ())}
    rows = np.zeros((len(fine) + len(coarse), 1 + len(ids)), np.float32)
    for row, members in enumerate([*((name,) for name in fine), *coarse.values()]):
        rows[row, [ids[m] for m in members if m in ids]] = 1
    return [*fine, *coarse], rows


def part_probabilities(logits: Floats, groups: Floats, height: int) -> Floats:
    """[n, height, width] from part logits [1 + P, h, w], doubled until they have the damage masks' grid.

    What no group covers counts as none.
    """
    flat = softmax(logits.reshape(len(logits), -1), axis=0)
    maps = np.asarray((groups @ flat).reshape(len(groups), *logits.shape[1:]), np.float32)
    while maps.shape[1] < height:
        maps = double(maps)
    return maps


def _parts(
    logits: Floats, height: int, vocabulary: Vocabulary, supported: Mapping[str, Sequence[str]], t: Mapping[str, float]
) -> list[DecodedInstance]:
    names, groups = part_groups(vocabulary, supported)
    if not names:
        return []
    p = part_probabilities(logits, groups, height)
    none = 1 - p.sum(0)
    best = np.where(none > p.max(0), -1, p.argmax(0))
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
