"""From the segment graph's queries to scored masks: queries vote, and what is known of each mask makes its score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.common.vision.logits import Floats, sigmoid, softmax
from services.common.vision.masks import groups, overlap
from services.common.vision.parts import PartMaps
from services.common.vision.vocabulary import Vocabulary

_VOTERS = 100  # queries per photo, the surest; the rest say nothing

SIGNALS = (
    "vote",  # logit of the voters' noisy-or
    "objectness",  # logits of the query that leads the vote: is it a damage, and how well does its mask fit
    "iou",
    "maskness",  # logit of the mean probability inside the mask
    "area",  # log of the mask's share of the photo, and its square: the very small and the very large are doubtful
    "area_squared",
    "damaged",  # logit of the mean of the map of damage anywhere (eq. 13) inside the mask
    "off_vehicle",  # logit of the mean probability of no part inside the mask
    "fake",  # logit of the likeliest fake
    "agreeing",  # log of the number of queries whose masks agree
    "named",  # probability of the likeliest supported name
)
"""What is known of a mask. A pack may say how much each counts: `rank_<signal>` and `rank_constant` among its
thresholds, fitted by logistic regression on validation photos. A pack that says nothing goes by the vote."""


@dataclass(frozen=True, eq=False)
class Proposals:
    """Masks after the vote, surest query first; n of them."""

    query: NDArray[np.intp]  # [n]: rows of the graph's outputs
    logits: Floats  # [n, h, w]
    least: Floats  # [n]: logit above which a cell belongs to the mask
    signals: Floats  # [n, len(SIGNALS)]
    names: list[str]  # supported damage names
    p_damage: Floats  # [n, names]
    p_fake: Floats  # [n, F]

    def scores(self, t: Mapping[str, float]) -> Floats:
        """[n]: the probability of a true instance at IoU 0.5, by the pack's weights and its Platt scaling."""
        weights = [t.get(f"rank_{name}", float(name == "vote" and "rank_constant" not in t)) for name in SIGNALS]
        logit = self.signals.astype(np.float64) @ weights + t.get("rank_constant", 0.0)
        return sigmoid(np.asarray(logit * t["score_scale"] + t["score_shift"], np.float32))


def propose(
    outputs: Mapping[str, Floats],
    parts: PartMaps,
    vocabulary: Vocabulary,
    supported: Mapping[str, Sequence[str]],
    t: Mapping[str, float],
) -> Proposals:
    """Everything that could be a damage on one photo. `parts`: on twice the masks' grid."""
    raw = query_scores(outputs)
    query = np.argsort(-raw, kind="stable")[:_VOTERS]
    logits, together, agreeing = vote(outputs["mask_logits"][query], raw[query], t)
    names, pooling = pooled_damages(vocabulary, supported.get("damages", ()))
    p_damage = np.asarray(softmax(outputs["damage_logits"][query]) @ pooling, np.float32)
    p_fake = sigmoid(outputs["fake_logits"][query])
    least = _least(p_damage, names, t)
    masks = (logits > least[:, None, None]).reshape(len(logits), -1).astype(np.float32)
    cells = masks.sum(1)
    area = np.log((cells + 1) / masks.shape[1])
    vehicle = parts.probabilities[:, ::2, ::2].sum(0)
    signals = (
        _logit(together),
        outputs["objectness"][query],
        outputs["iou"][query],
        _logit(maskness(logits)),
        area,
        area**2,
        _logit(masks @ sigmoid(outputs["damaged_logits"]).ravel() / np.maximum(cells, 1)),
        _logit(masks @ (1 - vehicle).ravel() / np.maximum(cells, 1)),
        _logit(p_fake.max(1, initial=0)),
        np.log(agreeing),
        p_damage.max(1, initial=0),
    )
    return Proposals(query, logits, least, np.stack(signals, 1).astype(np.float32), names, p_damage, p_fake)


def _least(p_damage: Floats, names: Sequence[str], t: Mapping[str, float]) -> Floats:
    """[n]: the pack's `mask_<name>` of each mask's likeliest damage, else its `mask`.

    How far beyond what is surely damaged a labeller draws differs: around a dent widely, along a scratch narrowly.
    """
    known = np.array([t.get(f"mask_{name}", t["mask"]) for name in names], np.float32)
    return known[p_damage.argmax(1)] if names else np.full(len(p_damage), t["mask"], np.float32)


def query_scores(outputs: Mapping[str, Floats]) -> Floats:
    """Query scores [n] before any vote: predicted mask IoU, root of objectness and squared maskness multiplied.

    The predicted IoU has seen what lies inside the mask and orders queries better than objectness does; how sure the
    mask is of its own cells (maskness, SOLO, Wang et al. 2020) tells crisp damages from smudges. All together order
    them best.
    """
    sure = np.sqrt(sigmoid(outputs["objectness"])) * sigmoid(outputs["iou"])
    return np.asarray(sure * maskness(outputs["mask_logits"]) ** 2, np.float32)


def maskness(logits: Floats) -> Floats:
    """Mean probability of the cells inside each mask [n]; 0 for an empty one. `logits`: [n, h, w]."""
    inside = [cells[cells > 0] for cells in logits]
    return np.array([sigmoid(cells).mean(dtype=np.float64) if cells.size else 0 for cells in inside], np.float32)


def vote(logits: Floats, score: Floats, t: Mapping[str, float]) -> tuple[Floats, Floats, Floats]:
    """What queries that draw about the same mask say together: mask logits [n, h, w], scores [n] and voters [n].

    Dense queries answer for a damage several at a time, and agreement is evidence. Each mask becomes the mean of those
    that overlap it by `vote_iou` or more, weighted by score and IoU; its score is the noisy-or of these weights.
    A query that nobody agrees with stays as it is. (Box voting, Gidaris and Komodakis 2015, for masks.)
    """
    masks = logits > t["mask"]
    both = overlap(masks, masks)
    area = both.diagonal()
    iou = both / np.maximum(area[:, None] + area[None] - both, 1)
    np.fill_diagonal(iou, 1)
    agree = iou >= min(t["vote_iou"], 1)
    weight = np.where(agree, iou, 0) * np.clip(score, 1e-6, 1 - 1e-6)[None]
    part = np.asarray(weight / weight.sum(1)[:, None], np.float32)
    mixed = logits.reshape(len(logits), -1).copy()
    for group in groups(agree):  # who votes together; a product of all with all would be nearly all zeros
        mixed[group] = part[np.ix_(group, group)] @ mixed[group]
    together = -np.expm1(np.log1p(-weight).sum(1))
    return (
        np.asarray(mixed.reshape(logits.shape), np.float32),
        np.asarray(together, np.float32),
        np.asarray(agree.sum(1), np.float32),
    )


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


def _logit(p: Floats) -> NDArray[np.float64]:
    q = np.clip(np.asarray(p, np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(q / (1 - q)))
