"""Train a SLICK: a small ALBERT that learns from labels and from a large one (eq. 21).

`python -m export.albert.distil --data ../data --teacher runs/albert --out runs/slick`; the same command resumes.

The teacher looks at the very view that the student sees, augmented and all, only at its own resolution: that costs two
thirds more a step, and what was cached once would answer for another view. The student starts with those of its
teacher's weights that fit.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from export.albert.losses import Batch, losses
from export.albert.model import Albert
from export.albert.position import resized
from export.albert.runs import load_run
from export.albert.soft import soft_losses
from export.albert.start import start
from export.albert.train import Config, prepare, train
from export.config import load_preset
from export.training import best_device, commands_error, fast_bf16, place, trainer_arguments

_SHARED = ("stem", "query", "width", "heads", "pyramid", "mask_channels", "part_channels", "damages", "fakes", "parts")


def shrunk(batch: Batch, size: int) -> Batch:
    """The same batch on photos of `size` pixels a side."""
    photos = batch.photos.permute(0, 3, 1, 2).float()
    photos = F.interpolate(photos, (size, size), mode="bilinear", antialias=True, align_corners=False)
    masks, side = batch.masks[:, None], size // 4
    masks = (F.interpolate(masks, (side, side), mode="area")[:, 0] >= 0.5).float() if len(masks) else masks[:, 0]
    parts = F.interpolate(batch.part_map[:, None].float(), (side, side), mode="nearest-exact")[:, 0].long()
    seen = masks.sum((1, 2)) >= 3  # as when a batch is drawn
    return dataclasses.replace(
        batch,
        photos=photos.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1),
        masks=masks[seen] if len(masks) else batch.masks.new_zeros(0, side, side),
        owner=batch.owner[seen],
        damage_targets=batch.damage_targets[seen],
        fake_targets=batch.fake_targets[seen],
        part_map=parts,
    )


def inherit(student: Albert, teacher: Albert) -> None:
    """Give the student its teacher's weights: its stem, its heads, and blocks evenly from the first to the last.

    Positions are interpolated. Raises ValueError where the presets do not share stem and widths: features are compared
    as they are, and heads are taken over.
    """
    mine, theirs = student.preset, teacher.preset
    for key in _SHARED:
        if getattr(mine, key) != getattr(theirs, key):
            raise ValueError(f"the student's {key} is {getattr(mine, key)}, the teacher's {getattr(theirs, key)}")
    source = torch.linspace(0, theirs.depth - 1, mine.depth).round().int().tolist()
    state = {k: v for k, v in teacher.state_dict().items() if not k.startswith("blocks.")}
    for at, block in enumerate(source):
        state |= {f"blocks.{at}.{k}": v for k, v in teacher.blocks[block].state_dict().items()}
    state["position"] = resized(state["position"], mine.size // 16)
    student.load_state_dict(state, strict=False)


class Lesson:
    """The loss terms of a batch that was drawn at the teacher's resolution."""

    def __init__(self, teacher: Albert, config: Config, device: torch.device) -> None:
        self.teacher, self.config = place(teacher, device).eval().requires_grad_(False), config

    def __call__(self, student: Albert, batch: Batch) -> dict[str, Tensor]:
        device = batch.photos.device
        with torch.autocast(device.type, torch.bfloat16, enabled=fast_bf16(device)):
            known = self.teacher.encode(batch.photos)
            own = shrunk(batch, self.config.preset.size)
            seen = student.encode(own.photos)
            hard = losses(student, seen, own, self.config.weights)
            return hard | soft_losses(student, seen, self.teacher, known, self.config.soft)


def main() -> None:
    args = trainer_arguments(
        "Train a SLICK on labelled photos and a teacher",
        "albert-slick",
        teacher="the run to learn from",
        init="an earlier student's run whose weights to start from, instead of the teacher's",
        parts="a segment pack that finds the parts on photos without part masks, for rendered fakes to lie on",
    )
    with commands_error():
        if args.teacher is None:
            raise ValueError("--teacher names the run to learn from")
        config = load_preset(Config, args.preset, minutes=args.minutes)
        teacher, _ = load_run(args.teacher)
        student = Albert(config.preset)
        if args.init:
            start(student, imagenet=None, run=args.init, classifier=None)
        else:
            inherit(student, teacher)
        photos, shares = prepare(config, args)
        lesson = Lesson(teacher, config, best_device())
        train(config, photos, shares, args.out, student, terms=lesson, side=teacher.preset.size)


if __name__ == "__main__":
    main()
