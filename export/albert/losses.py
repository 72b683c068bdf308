"""ALBERT's losses (eq. 5, 7, 8) over dense queries, with partial labels: only annotated domains are trained.

Shapes: B photos, T tokens, K instances of the whole batch, A assigned (token, instance) pairs, h = S/4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from export.albert.model import Albert, Encoded, Queries


@dataclass(frozen=True)
class Weights:
    """Weights of the loss terms. paper: unnamed; here: Mask2Former's as a start, settled on the validation split."""

    dice: float = 2.0
    bce: float = 4.0
    objectness: float = 4.0
    damage: float = 1.0
    fake: float = 1.0
    iou: float = 2.0
    part: float = 3.0
    damaged: float = 2.0


@dataclass
class Batch:
    """One training batch. Instances of all photos stand in one list; `owner` says whose they are."""

    photos: Tensor  # uint8 [B, S, S, 3]
    masks: Tensor  # float [K, h, h] in {0, 1}
    owner: Tensor  # int64 [K], index into B
    damage_targets: Tensor  # float [K, D]: 1 for every damage name that the label allows; all 0 for a fake
    fake_targets: Tensor  # float [K, F]
    part_map: Tensor  # int64 [B, h, h]: row of `part_sets`
    part_sets: Tensor  # bool [R, 1 + P]: which fine parts a coarse label allows
    has_damages: Tensor  # bool [B]: damages are annotated, so what is not marked is absent
    has_parts: Tensor  # bool [B]


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - Dice per mask; [A, h, h] -> [A]."""
    p = logits.sigmoid().flatten(1)
    t = target.flatten(1)
    return 1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)


def focal(logits: Tensor, target: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """Sigmoid focal loss per element (Lin et al. 2017)."""
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    p = logits.sigmoid()
    hit = p * target + (1 - p) * (1 - target)
    return (alpha * target + (1 - alpha) * (1 - target)) * (1 - hit) ** gamma * bce


def assign(batch: Batch, side: int, top: int = 3) -> tuple[Tensor, Tensor]:
    """Tokens that answer for each instance: (instance [A], token [A]).

    A token qualifies when the mask covers at least half as much of it as of the best-covered token; of these the `top`
    nearest to the mask's centre are taken. A token that qualifies for two instances goes to the smaller one.
    """
    k = batch.masks.shape[0]
    if k == 0:
        empty = torch.zeros(0, dtype=torch.long, device=batch.masks.device)
        return empty, empty
    cover = F.adaptive_avg_pool2d(batch.masks[:, None], side)[:, 0]  # [K, side, side]
    line = (torch.arange(side, device=cover.device) + 0.5) / side
    total = cover.sum((1, 2)).clamp(min=1e-6)
    cx, cy = (cover.sum(1) @ line) / total, (cover.sum(2) @ line) / total
    distance = ((line[None, None, :] - cx[:, None, None]) ** 2 + (line[None, :, None] - cy[:, None, None]) ** 2).sqrt()
    flat = cover.flatten(1)
    good = flat >= 0.5 * flat.amax(1, keepdim=True).clamp(min=1e-4)
    rank = torch.where(good, distance.flatten(1), torch.full_like(flat, 9.0)) - 0.05 * flat
    count = min(top, rank.shape[1])
    value, token = rank.topk(count, dim=1, largest=False)  # [K, top]
    keep = value < 8.0
    instance = torch.arange(k, device=cover.device)[:, None].expand(-1, count)[keep]
    token = token[keep]
    # Small instances win ties: of the pairs that share (photo, token), keep the one with the least mask area.
    key = batch.owner[instance] * (side * side) + token
    order = torch.argsort(total[instance], stable=True)
    order = order[torch.argsort(key[order], stable=True)]
    first = torch.ones_like(order, dtype=torch.bool)
    first[1:] = key[order][1:] != key[order][:-1]
    chosen = order[first]
    return instance[chosen], token[chosen]


@torch.no_grad()
def matched(model: Albert, encoded: Encoded, batch: Batch) -> tuple[Tensor, Tensor]:
    """Learned queries that answer for each instance, one to one at least cost (DETR): (instance [A], query [A])."""
    everyone = model.centres(encoded.tokens.device, encoded.candidates.dtype).expand(len(batch.photos), -1, -1)
    queries = model.query(encoded.candidates, everyone)
    masks = model.masks(model.mask_features(encoded.pyramid), queries).float().sigmoid().flatten(2)
    pairs: list[tuple[int, int]] = []
    for photo in range(len(batch.photos)):
        rows = (batch.owner == photo).nonzero()[:, 0]
        truth = batch.masks[rows].flatten(1)  # [k, hh]
        apart = 1 - 2 * masks[photo] @ truth.T / (masks[photo].sum(1)[:, None] + truth.sum(1)[None]).clamp(min=1)
        unsure = -queries.objectness[photo].float().sigmoid()[:, None]
        query, instance = linear_sum_assignment((2 * apart + unsure).cpu().numpy())
        pairs += [(int(rows[i]), int(q)) for q, i in zip(query, instance, strict=True)]
    index = torch.tensor(pairs, dtype=torch.long, device=batch.masks.device).reshape(-1, 2)
    return index[:, 0], index[:, 1]


def part_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy and Dice of part masks where parts are annotated; coarse labels train the sum of their members.

    `logits`: [B, 1 + P, h/2, h/2].
    """
    rows = batch.has_parts.nonzero()[:, 0]
    if len(rows) == 0:
        return logits.sum() * 0
    p = logits[rows].float().softmax(1)
    sets = batch.part_sets.float()  # [R, 1 + P]
    q = torch.einsum("rp,bpij->brij", sets, p).clamp(1e-6, 1 - 1e-6)  # probability of each label's members, summed
    step = batch.part_map.shape[-1] // logits.shape[-1]  # parts are large: their masks live at stride 8
    target = batch.part_map[rows][:, step // 2 :: step, step // 2 :: step]
    ce = -q.gather(1, target[:, None]).log().mean()
    hot = F.one_hot(target, sets.shape[0]).permute(0, 3, 1, 2).float()[:, 1:]
    inter, size = (q[:, 1:] * hot).sum((2, 3)), q[:, 1:].sum((2, 3)) + hot.sum((2, 3))
    present = hot.sum((2, 3)) > 0
    overlap = 1 - (2 * inter + 1) / (size + 1)
    return ce + (overlap * present).sum() / present.sum().clamp(min=1)


def _own_masks(model: Albert, features: Tensor, queries: Queries, owner: Tensor) -> Tensor:
    """Masks [A, h, h] of queries [A, 1, ...], each over its own photo's features: photo by photo, as a gather of
    features would copy megabytes per query."""
    out = features.new_empty(len(owner), *features.shape[2:])
    for photo in sorted(set(owner.tolist())):
        rows = (owner == photo).nonzero()[:, 0]
        own = Queries(**{k: v[rows, 0][None] for k, v in vars(queries).items()})
        out[rows] = model.masks(features[photo : photo + 1], own)[0]
    return out


def _quality_loss(model: Albert, encoded: Encoded, batch: Batch, objectness: Tensor, count: int = 16) -> Tensor:
    """Binary cross-entropy of predicted to true mask IoU over the queries that would be listed, good and bad alike."""
    b, t, d = encoded.candidates.shape
    index = objectness.topk(min(count, t), dim=1).indices  # [B, count]
    tokens = encoded.candidates.gather(1, index[..., None].expand(-1, -1, d))
    with torch.no_grad():
        centres = model.centres(tokens.device, tokens.dtype)[index.reshape(-1)].reshape(*index.shape, 2)
        masks = model.masks(model.mask_features(encoded.pyramid), model.query(tokens, centres)).float()
        target = torch.stack([_best_iou(masks[i] > 0, batch.masks[batch.owner == i] > 0.5) for i in range(b)])
    quality = model.mask_quality(tokens, masks, encoded.pyramid.float()).float()
    loss = F.binary_cross_entropy_with_logits(quality, target, reduction="none").mean(1)
    return (loss * batch.has_damages).sum() / batch.has_damages.sum().clamp(min=1)


def _best_iou(found: Tensor, truth: Tensor) -> Tensor:
    """Highest IoU with any true mask: bool [n, h, h], bool [m, h, h] -> [n]."""
    if len(truth) == 0:
        return torch.zeros(len(found), device=found.device)
    a, b = found.flatten(1).float(), truth.flatten(1).float()
    inter = a @ b.T
    return (inter / (a.sum(1)[:, None] + b.sum(1)[None] - inter).clamp(min=1)).amax(1)


def losses(model: Albert, encoded: Encoded, batch: Batch, weights: Weights) -> dict[str, Tensor]:
    """Weighted loss terms by name; their sum is eq. 8 plus the auxiliary map of eq. 13."""
    b, t, _ = encoded.candidates.shape
    side = int(encoded.tokens.shape[1] ** 0.5)
    device = encoded.tokens.device
    instance, token = assign(batch, side) if model.learned is None else matched(model, encoded, batch)
    centres = model.centres(device, torch.float32)
    owner = batch.owner[instance]
    quality = model.quality(encoded.candidates).float()  # [B, C, 1]
    out: dict[str, Tensor] = {}
    objectness = torch.zeros(b, t, device=device)
    if len(instance):
        tokens = encoded.candidates[owner, token]  # [A, d]
        queries = model.query(tokens[:, None], centres[token][:, None].to(tokens.dtype))
        queries = Queries(**{k: v.float() for k, v in vars(queries).items()})
        features = model.mask_features(encoded.pyramid).float()
        logits = _own_masks(model, features, queries, owner)  # [A, h, h]
        target = batch.masks[instance]
        # Every instance counts the same, however many tokens answer for it.
        share = 1.0 / torch.bincount(instance, minlength=len(batch.masks))[instance].clamp(min=1)
        share = share / share.sum()
        pixels = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        # Half of the weight inside the instance and its neighbourhood: a scratch is 1 % of the photo.
        near = F.max_pool2d(target[:, None], 9, 1, 4)[:, 0]
        bce = 0.5 * pixels.mean((1, 2)) + 0.5 * (pixels * near).sum((1, 2)) / near.sum((1, 2)).clamp(min=1)
        out["dice"] = weights.dice * (dice_loss(logits, target) * share).sum()
        out["bce"] = weights.bce * (bce * share).sum()
        real = batch.damage_targets[instance].sum(1) > 0
        allowed = batch.damage_targets[instance].clamp(max=1)
        nll = -(queries.damage[:, 0].softmax(-1) * allowed).sum(-1).clamp(min=1e-6).log()  # sum over allowed names
        out["damage"] = weights.damage * (nll * share * real).sum()
        fake = focal(queries.fake[:, 0], batch.fake_targets[instance]).sum(-1)
        out["fake"] = weights.fake * 4 * (fake * share).sum()
        objectness[owner, token] = 1.0
    out["iou"] = weights.iou * _quality_loss(model, encoded, batch, quality[..., 0].detach())
    known = batch.has_damages[:, None].float()
    positives = objectness.sum().clamp(min=1)
    out["objectness"] = weights.objectness * (focal(quality[..., 0], objectness) * known).sum() / positives
    out["part"] = weights.part * part_loss(model.part_masks(encoded), batch)
    damaged = batch.damage_targets.sum(1) > 0
    whose = F.one_hot(batch.owner[damaged], b).float()  # [damages, B]
    union = whose.T @ batch.masks[damaged].flatten(1)
    anywhere = (union > 0).float().reshape(b, *batch.masks.shape[1:])
    heat = model.damaged(encoded.pyramid)[:, 0].float()
    pixel = F.binary_cross_entropy_with_logits(heat, anywhere, reduction="none").mean((1, 2))
    shape = dice_loss(heat, anywhere) * (anywhere.sum((1, 2)) > 0)
    count = batch.has_damages.sum().clamp(min=1)
    out["damaged"] = weights.damaged * ((pixel + 0.5 * shape) * batch.has_damages).sum() / count  # eq. 13
    if encoded.focus is not None:  # a token is worth a look when any of its cells is damaged
        cells = F.adaptive_max_pool2d(anywhere[:, None], side).flatten(1)
        missed = F.binary_cross_entropy_with_logits(encoded.focus.float(), cells, reduction="none").mean(1)
        out["focus"] = weights.damaged * (missed * batch.has_damages).sum() / count
    return out
