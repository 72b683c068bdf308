"""What a teacher's view of a batch teaches a student (eq. 21, its second and third term).

Shapes: B photos, n of the teacher's queries, m mask channels, h = S/4 of the student.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from export.albert.losses import dice_loss
from export.albert.model import Albert, Encoded, Queries


@dataclass(frozen=True)
class Softness:
    """Weights of what the teacher says. paper: lambda_2, lambda_3 and tau without values; here: ml practice."""

    temperature: float = 2.0  # tau, of names
    names: float = 1.0  # lambda_2
    masks: float = 2.0
    objectness: float = 2.0
    parts: float = 3.0
    damaged: float = 1.0
    features: float = 0.5  # lambda_3
    queries: int = 12  # of the teacher, the surest of each photo


def soft_losses(student: Albert, seen: Encoded, teacher: Albert, known: Encoded, soft: Softness) -> dict[str, Tensor]:
    """What the teacher's view `known` teaches the student's `seen`: weighted terms by name (eq. 21, 2nd and 3rd).

    Both are dense: a teacher's query is answered by the student's token at the same place. [B, n] queries below.
    """
    with torch.no_grad():
        objectness = teacher.quality(known.tokens)[..., 0].float()
        sure, index = objectness.sigmoid().topk(soft.queries, dim=1)  # [B, n]
        wanted = _exact(teacher.query(_rows(known.tokens, index), _at(teacher, index, known.tokens)))
        wanted_masks = teacher.masks(teacher.mask_features(known.pyramid).float(), wanted)
        parts, damaged = teacher.part_masks(known).float(), teacher.damaged(known.pyramid).float()
    here = _nearest(index, _side(known), _side(seen))
    given = _exact(student.query(_rows(seen.tokens, here), _at(student, here, seen.tokens)))
    masks = student.masks(student.mask_features(seen.pyramid).float(), given)
    weight = sure / sure.sum().clamp(min=1e-6)  # foreground only: else the background swamps it
    target = _like(wanted_masks, masks).sigmoid().flatten(0, 1)
    flat = masks.flatten(0, 1)
    mask = F.binary_cross_entropy_with_logits(flat, target, reduction="none").mean((1, 2)) * 4 + dice_loss(flat, target)
    names = softened(given.damage, wanted.damage, soft.temperature)
    names = names + F.binary_cross_entropy_with_logits(given.fake, wanted.fake.sigmoid(), reduction="none").sum(-1)
    answered = _like(objectness.sigmoid().reshape(-1, 1, _side(known), _side(known)), side=_side(seen), peak=True)
    mine = student.quality(seen.tokens)[..., 0].float()
    found = F.binary_cross_entropy_with_logits(mine, answered.flatten(1), reduction="none")
    own, heat = student.part_masks(seen).float(), student.damaged(seen.pyramid).float()
    pixels = softened(own.permute(0, 2, 3, 1), _like(parts, own).permute(0, 2, 3, 1), soft.temperature)
    anywhere = F.binary_cross_entropy_with_logits(heat, _like(damaged, heat).sigmoid())
    return {
        "soft_mask": soft.masks * (mask.reshape_as(weight) * weight).sum(),
        "soft_names": soft.names * (names * weight).sum(),
        "soft_objectness": soft.objectness * found.sum() / answered.sum().clamp(min=1),
        "soft_parts": soft.parts * pixels.mean(),
        "soft_damaged": soft.damaged * anywhere,
        "features": soft.features * sum(_apart(a, _like(b, a)) for a, b in zip(_maps(seen), _maps(known), strict=True)),
    }


def softened(given: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """KL(softmax(wanted / tau) || softmax(given / tau)) tau^2 over the last axis."""
    p = F.log_softmax(wanted.float() / temperature, -1)
    q = F.log_softmax(given.float() / temperature, -1)
    return F.kl_div(q, p, reduction="none", log_target=True).sum(-1) * temperature**2


def _exact(queries: Queries) -> Queries:
    return Queries(**{name: value.float() for name, value in vars(queries).items()})


def _side(encoded: Encoded) -> int:
    return int(encoded.tokens.shape[1] ** 0.5)


def _rows(tokens: Tensor, index: Tensor) -> Tensor:
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))


def _at(model: Albert, index: Tensor, like: Tensor) -> Tensor:
    """Centres [B, n, 2] of tokens [B, n]."""
    return model.centres(like.device, like.dtype)[index.reshape(-1)].reshape(*index.shape, 2)


def _nearest(index: Tensor, before: int, after: int) -> Tensor:
    """Tokens [B, n] of a grid of `before` x `before` as those of another grid at the same places."""
    y, x = (((part + 0.5) / before * after).long() for part in (index // before, index % before))
    return y * after + x


def _like(maps: Tensor, other: Tensor | None = None, *, side: int = 0, peak: bool = False) -> Tensor:
    """Maps [B, c, h, w] at another resolution; `peak` keeps the largest value instead of the mean."""
    side = side or (other.shape[-1] if other is not None else 0)
    if peak:
        return F.adaptive_max_pool2d(maps, side)
    return F.interpolate(maps, (side, side), mode="bilinear", antialias=True, align_corners=False)


def _maps(encoded: Encoded) -> tuple[Tensor, Tensor, Tensor]:
    """Three feature maps [B, c, h, w]: tokens, stride 8, stride 4."""
    tokens = encoded.tokens.transpose(1, 2).reshape(len(encoded.tokens), -1, _side(encoded), _side(encoded))
    return tokens.float(), encoded.coarse.float(), encoded.pyramid.float()


def _apart(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of normalised features (eq. 21): plain L2 follows whatever map is largest."""

    def normal(x: Tensor) -> Tensor:
        return F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],))

    return F.mse_loss(normal(a), normal(b))
