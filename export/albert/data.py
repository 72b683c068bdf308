"""Photos and labels in memory, and augmentation on whatever device trains: one affine and one colour change per photo.

Everything is stored stretched to a square, as the segmenter sees it. Each photo says which domains are annotated, so
that a photo labelled only for damages never teaches that its parts are absent.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from export.albert.losses import Batch
from export.labels import Labels

MASK_SIDE = 320  # masks are stored at this side: finer than the stride-4 grid of a 512-pixel photo they are sampled to
FARTHEST, CLOSEST = 0.6, 2.2  # zooms that a photo is drawn between
CLOSEST_PARTS = 4.0  # of a photo with part masks: those show whole cars, and claims show a panel


@dataclass
class Sample:
    """One photo with its labels. Masks are bool [MASK_SIDE, MASK_SIDE]."""

    pixels: NDArray[np.uint8]  # [R, R, 3]
    masks: list[NDArray[np.bool_]]
    names: list[tuple[str, ...]]  # per mask: the damage (or fake) names that its label allows
    parts: NDArray[np.uint8] | None = None  # [MASK_SIDE, MASK_SIDE], row of PartSets; None: parts are not annotated
    has_damages: bool = True


class PartSets:
    """Rows of allowed fine parts for each label of the parts data; row 0 is everything that no label covers."""

    def __init__(self, labels: Labels, source: str) -> None:
        ids = labels.part_ids()
        targets = labels.sources[source]
        self.labels = list(targets)
        members = [[ids[n] for n in targets[name].names] for name in self.labels]
        covered = {i for row in members for i in row}
        rest = [i for i in range(len(ids) + 1) if i not in covered]  # none, and parts this source never labels
        self.rows = torch.zeros(1 + len(members), 1 + len(ids), dtype=torch.bool)
        for row, allowed in enumerate([rest, *members]):
            self.rows[row, allowed] = True
        names = {name: i + 1 for i, name in enumerate(self.labels)}
        self.index = names
        self.mirror = torch.arange(1 + len(members))
        fine = labels.mirror_ids()
        by_members = {tuple(sorted(m)): i + 1 for i, m in enumerate(members)}
        for i, m in enumerate(members):
            self.mirror[i + 1] = by_members[tuple(sorted(fine[x] for x in m))]


class Photos:
    """All samples on one device, from which batches are drawn and augmented."""

    def __init__(self, samples: list[Sample], labels: Labels, sets: PartSets, device: torch.device) -> None:
        self.sets, self.device = sets, device
        self.pixels = torch.from_numpy(np.stack([s.pixels for s in samples])).to(device)  # [n, R, R, 3]
        damages, fakes = labels.damage_ids(), labels.fake_ids()
        starts, masks, dt, ft = [0], [], [], []
        for s in samples:
            for mask, names in zip(s.masks, s.names, strict=True):
                masks.append(mask)
                d, f = np.zeros(len(damages), np.float32), np.zeros(len(fakes), np.float32)
                for name in names:
                    if name in damages:
                        d[damages[name] - 1] = 1
                    else:
                        f[fakes[name] - 1] = 1
                dt.append(d)
                ft.append(f)
            starts.append(len(masks))
        empty = np.zeros((0, MASK_SIDE, MASK_SIDE), np.bool_)
        self.masks = torch.from_numpy(np.stack(masks) if masks else empty).to(device)
        self.damage_targets = torch.from_numpy(np.array(dt, np.float32).reshape(-1, len(damages))).to(device)
        self.fake_targets = torch.from_numpy(np.array(ft, np.float32).reshape(-1, len(fakes))).to(device)
        self.starts = starts
        blank = np.zeros((MASK_SIDE, MASK_SIDE), np.uint8)
        self.parts = torch.from_numpy(np.stack([blank if s.parts is None else s.parts for s in samples])).to(device)
        self.has_parts = torch.tensor([s.parts is not None for s in samples], device=device)
        self.has_damages = torch.tensor([s.has_damages for s in samples], device=device)
        self.part_rows = sets.rows.to(device)
        self.part_mirror = sets.mirror.to(device)

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, index: list[int], size: int, rng: torch.Generator, *, augment: bool) -> Batch:
        """Photos `index`, cut to `size`; every random choice comes from `rng` (a CPU generator)."""
        b, side = len(index), size // 4
        rows = torch.tensor(index, device=self.device)
        closest = torch.where(self.has_parts[rows], CLOSEST_PARTS, CLOSEST).cpu()
        theta, flip = affine(b, rng, augment=augment, closest=closest)
        theta = theta.to(self.device)
        grid = F.affine_grid(theta, [b, 1, size, size], align_corners=False)
        x = self.pixels[rows].permute(0, 3, 1, 2).float()
        x = F.grid_sample(x - 124, grid, mode="bilinear", padding_mode="zeros", align_corners=False) + 124
        if augment:
            x = colour(x, rng)
        small = F.affine_grid(theta, [b, 1, side, side], align_corners=False)
        spans = [(self.starts[i], self.starts[i + 1]) for i in index]
        pick = torch.tensor([j for a, z in spans for j in range(a, z)], dtype=torch.long, device=self.device)
        owner = torch.tensor(
            [n for n, (a, z) in enumerate(spans) for _ in range(a, z)], dtype=torch.long, device=self.device
        )
        masks = F.grid_sample(self.masks[pick][:, None].float(), small[owner], mode="bilinear", align_corners=False)[
            :, 0
        ]
        masks = (masks > 0.5).float()
        seen = masks.sum((1, 2)) >= 3  # fewer cells than this cannot be learned at stride 4
        parts = F.grid_sample(self.parts[rows][:, None].float(), small, mode="nearest", align_corners=False)[
            :, 0
        ].long()
        flipped = flip.to(self.device)[:, None, None]
        parts = torch.where(flipped, self.part_mirror[parts], parts)  # a flip turns left parts into right ones
        return Batch(
            photos=x.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1),
            masks=masks[seen],
            owner=owner[seen],
            damage_targets=self.damage_targets[pick][seen],
            fake_targets=self.fake_targets[pick][seen],
            part_map=parts,
            part_sets=self.part_rows,
            has_damages=self.has_damages[rows],
            has_parts=self.has_parts[rows],
        )


def affine(
    count: int, rng: torch.Generator, *, augment: bool, closest: Tensor | float = CLOSEST
) -> tuple[Tensor, Tensor]:
    """Output-to-input affine [count, 2, 3] in [-1, 1] coordinates, and whether each photo is flipped.

    Scale jitter 0.6 to `closest` ([count] or one for all; large-scale jitter), aspect jitter 3:4 to 4:3 (the labelled
    photos were stretched from 4:3 to squares), rotation to 10 degrees, shift within the photo, horizontal flip. Never a
    vertical flip.
    """

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=rng) * (high - low) + low

    if not augment:
        theta = torch.eye(2, 3).expand(count, 2, 3).clone()
        return theta, torch.zeros(count, dtype=torch.bool)
    zoom = FARTHEST * (closest / FARTHEST) ** torch.rand(count, generator=rng)
    aspect = torch.exp(uniform(log(0.75), log(4 / 3)) / 2)
    angle = uniform(-0.17, 0.17)
    flip = torch.rand(count, generator=rng) < 0.5
    sx, sy = aspect / zoom, 1 / (aspect * zoom)
    cos, sin = torch.cos(angle), torch.sin(angle)
    mirror = torch.where(flip, -1.0, 1.0)
    room_x, room_y = (1 - sx).abs(), (1 - sy).abs()  # how far the window may move and still be mostly photo
    tx, ty = uniform(-1, 1) * (room_x + 0.05), uniform(-1, 1) * (room_y + 0.05)
    theta = torch.stack(
        [torch.stack([mirror * sx * cos, -sy * sin, tx], 1), torch.stack([mirror * sx * sin, sy * cos, ty], 1)], 1
    )
    return theta, flip


def colour(x: Tensor, rng: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation, white balance, blur and noise on [B, 3, S, S] in 0..255."""
    b = x.shape[0]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return (torch.rand(b, *(shape or (1, 1, 1)), generator=rng) * (high - low) + low).to(x.device)

    x = x * uniform(0.65, 1.4) * uniform(0.92, 1.08, 3, 1, 1)
    mean = x.mean((2, 3), keepdim=True)
    x = (x - mean) * uniform(0.7, 1.35) + mean
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * uniform(0.4, 1.5)
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = x + (soft - x) * (uniform(-1.2, 1.0))  # below 0 sharpens, above 0 blurs
    return x + torch.randn(x.shape, generator=rng).to(x.device) * uniform(0, 7)
