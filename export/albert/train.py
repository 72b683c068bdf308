"""Train ALBERT: `python -m export.albert.train --data ../data --out runs/albert`.

Writes a checkpoint after every epoch and goes on from it when called again. The weights that are kept are an
exponential moving average. One process, one device: a GPU when there is one, else the CPU.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from export.albert.data import PartSets, Photos
from export.albert.dataset import PARTS, training_samples
from export.albert.losses import Batch, Weights, losses
from export.albert.model import Albert, Preset
from export.albert.pasted import with_pastes
from export.albert.rendered import labelled_parts, predicted_parts, with_fakes
from export.albert.soft import Softness
from export.albert.start import start
from export.config import load_preset
from export.efficientnet_lite import EfficientNetLite
from export.labels import load_labels
from export.training import (
    Checkpoint,
    Schedule,
    average,
    best_device,
    commands_error,
    fast_bf16,
    mean_of,
    place,
    take_step,
    trainer_arguments,
)

STORED = 576  # pixels per side that photos are kept at in memory: room to zoom into


@dataclass(frozen=True)
class Config:
    """One training run."""

    preset: Preset = field(default_factory=Preset)
    weights: Weights = field(default_factory=Weights)
    soft: Softness = field(default_factory=Softness)  # where a teacher is at hand: export.albert.distil
    epochs: int = 60
    minutes: float = 0.0  # time budget instead of epochs (see Schedule)
    batch: int = 12
    lr: float = 6e-4
    layer_decay: float = (
        0.75  # of the learning rate, per encoder block towards the input; the stem is one more layer down
    )
    weight_decay: float = 0.05
    frozen: int = (
        7  # stem blocks (up to stride 8) that keep their ImageNet weights: their gradients cost most of a step
    )
    pastes: float = (
        0.0  # share of the photos with part masks that have a version with another photo's damage on a panel
    )
    fakes: float = 0.3  # share of the photos that have a second version with rendered fakes (--parts)
    ema: float = 0.998
    seed: int = 0


def parameter_groups(model: Albert, config: Config) -> list[dict[str, object]]:
    """Layer-wise learning-rate decay (paper: named, no value; here: 0.75), norms and biases without weight decay."""
    depth = model.preset.depth
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, p in model.named_parameters():
        layer = depth + 1
        if name.startswith("stem."):
            layer = 0
        elif name.startswith("blocks."):
            layer = 1 + int(name.split(".")[1])
        elif name.startswith(("embed", "position")):
            layer = 1
        groups.setdefault(
            (layer, p.ndim > 1 and not name.startswith(("position", "part_tokens", "learned"))), []
        ).append(p)
    return [
        {
            "params": ps,
            "lr": config.lr * config.layer_decay ** (depth + 1 - layer),
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (layer, decays), ps in groups.items()
    ]


def freeze(model: Albert, blocks: int) -> None:
    """Keep the first `blocks` blocks of a convolutional stem as they are, and the statistics of its batch norms."""
    stem = model.stem
    if not isinstance(stem, EfficientNetLite):
        return
    for module in (stem._conv_stem, stem._bn0, *list(stem._blocks)[:blocks]) if blocks else ():
        module.requires_grad_(False)
    for module in stem.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def train(
    config: Config,
    photos: Photos,
    shares: Tensor,
    out: Path,
    model: Albert,
    *,
    terms: Callable[[Albert, Batch], dict[str, Tensor]] | None = None,
    side: int = 0,
) -> Albert:
    """Train `model` on `photos`, drawn with probability `shares` [n]; returns the averaged model in evaluation mode.

    `terms`: the loss terms of a batch drawn at `side` pixels; without them those of eq. 8 at the model's own size.
    """
    device, side = photos.device, side or config.preset.size
    terms = terms or partial(loss_terms, weights=config.weights)
    torch.manual_seed(config.seed)
    rng = torch.Generator().manual_seed(config.seed)
    model = place(model, device)
    averaged = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(parameter_groups(model, config))
    base = [float(g["lr"]) for g in optimizer.param_groups]
    steps = max(1, len(photos) // config.batch)
    checkpoint = Checkpoint(out, config)
    first, spent = checkpoint.resume(rng, model=model, averaged=averaged, optimizer=optimizer)
    schedule = Schedule(config.epochs * steps, config.minutes, spent=spent)
    bar = tqdm(range(first, config.epochs), desc="train albert", unit="epoch", mininterval=5)
    for epoch in bar:
        model.train()
        freeze(model, config.frozen)
        sums: dict[str, Tensor] = {}
        drawn = torch.multinomial(shares, steps * config.batch, replacement=True, generator=rng).tolist()
        for step in range(steps):
            done = epoch * steps + step
            factor = schedule.factor(schedule.share(done))
            for group, lr in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = lr * factor
            chosen = drawn[step * config.batch : (step + 1) * config.batch]
            weighed = terms(model, photos.batch(chosen, side, rng, augment=True))
            take_step(torch.stack(list(weighed.values())).sum(), model, optimizer)
            average(averaged, model, min(config.ema, (done + 1) / (done + 10)))
            for name, value in weighed.items():
                sums[name] = sums.get(name, torch.zeros((), device=device)) + value.detach()
            if schedule.share(done + 1) >= 1:
                break
        row = mean_of(sums, step + 1)
        bar.set_postfix({k: f"{v:.3f}" for k, v in row.items()})
        checkpoint.record(epoch=epoch + 1, seconds=schedule.seconds, share=schedule.share(done), **row)
        checkpoint.save(epoch + 1, schedule.seconds, rng, model=model, averaged=averaged, optimizer=optimizer)
        if schedule.share(done + 1) >= 1:
            break
    return averaged.eval()


def loss_terms(model: Albert, batch: Batch, weights: Weights) -> dict[str, Tensor]:
    """One forward pass, in bf16 where that is fast; the losses themselves are fp32."""
    device = batch.photos.device
    with torch.autocast(device.type, torch.bfloat16, enabled=fast_bf16(device)):
        encoded = model.encode(batch.photos)
        return losses(model, encoded, batch, weights)


def prepare(config: Config, args: argparse.Namespace) -> tuple[Photos, Tensor]:
    """What a trainer's command line names: photos, some twice with rendered fakes, and how often each is drawn [n]."""
    labels = load_labels()
    sets = PartSets(labels, PARTS)
    samples, shares = training_samples(args.data, "train", labels, sets, side=STORED, all_licences=args.all_licences)
    fakes = with_fakes(samples, predicted_parts(args.parts) if args.parts else labelled_parts, share=config.fakes)
    pastes = with_pastes(samples, labels, sets, share=config.pastes) if config.pastes else []
    samples, shares = samples + fakes + pastes, shares + [1.0] * (len(fakes) + len(pastes))
    damages, mapped = sum(len(s.masks) for s in samples), sum(s.parts is not None for s in samples)
    extra = f"{len(fakes)} with rendered fakes, {len(pastes)} with pasted damages"
    print(f"{len(samples)} photos ({extra}), {damages} instances, {mapped} with part masks")
    return Photos(samples, labels, sets, best_device()), torch.tensor(shares)


def main() -> None:
    args = trainer_arguments(
        "Train ALBERT on labelled photos",
        "albert-tiny",
        init="an earlier run, or a pack made one by export.convert.to_run, whose weights to start from",
        classifier="a CropResMoE run on the same backbone, whose damage features the stem is averaged with",
        parts="a segment pack that finds the parts on photos without part masks, for rendered fakes to lie on",
    )
    with commands_error():
        config = load_preset(Config, args.preset, minutes=args.minutes)
        model = Albert(config.preset)
        start(model, imagenet=args.weights, run=args.init, classifier=args.classifier)
        photos, shares = prepare(config, args)
        train(config, photos, shares, args.out, model)


if __name__ == "__main__":
    main()
