"""Train CropResMoE on damage crops: `python -m export.cropresmoe.train --data ../data --out runs/cls`.

Every epoch writes a checkpoint; the same command goes on where it stopped. The weights that are kept are an
exponential moving average.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast
from torch import Tensor, nn
from tqdm import tqdm

from export.config import load_preset
from export.cropresmoe.backbones import load_pretrained
from export.cropresmoe.config import Config, build, cutting
from export.cropresmoe.data import Crops, augment
from export.cropresmoe.dataset import load_crops
from export.cropresmoe.features import teacher_answers
from export.cropresmoe.model import CropResMoE
from export.cropresmoe.objective import Objective
from export.data.coco import read_coco
from export.efficientnet_lite import EfficientNetLite
from export.labels import load_labels
from export.training import (
    Checkpoint,
    Schedule,
    average,
    commands_error,
    place,
    read_checkpoint,
    take_step,
    trainer_arguments,
)


def freeze(model: nn.Module, blocks: int) -> None:
    """Keep the first blocks of a pretrained EfficientNet-Lite and all its batch statistics."""
    backbone = getattr(model, "backbone", None)
    if not blocks or not isinstance(backbone, EfficientNetLite):
        return
    for module in (backbone._conv_stem, backbone._bn0, *list(backbone._blocks)[:blocks]):
        module.requires_grad_(False)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def parameter_groups(model: nn.Module, config: Config) -> list[dict[str, object]]:
    """Backbone and head apart; norms and biases without weight decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, p in model.named_parameters():
        groups.setdefault((name.startswith("backbone."), p.ndim > 1), []).append(p)
    return [
        {
            "params": ps,
            "lr": config.backbone_lr if body else config.lr,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (body, decays), ps in groups.items()
    ]


@torch.no_grad()
def predict(model: nn.Module, crops: Tensor, batch: int = 128) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, gates and features of uint8 crops [n, S, S, 3], in evaluation mode."""
    model.eval()
    parts = [model(crops[i : i + batch]) for i in range(0, len(crops), batch)]
    logits, gates, features = (torch.cat([p[i] for p in parts]).float() for i in range(3))
    return logits, gates, features


def train(
    config: Config,
    data: Crops,
    validation: Crops,
    classes: list[str],
    out: Path,
    *,
    initial: nn.Module | None = None,
    teacher: Tensor | None = None,
) -> nn.Module:
    """Train and return the averaged model; `out/checkpoint.pt` resumes, `out/log.jsonl` keeps the curve.

    On the devices of `accelerate launch` or `torchrun`, or on the best one there is; each process then takes its share
    of every batch, and all end with the same weights. `teacher`: logits [n, C] of a better model on the same crops,
    for distillation.
    """
    torch.manual_seed(config.seed)
    rng = torch.Generator()
    accelerator = Accelerator()
    device, rank, world = accelerator.device, accelerator.process_index, accelerator.num_processes
    model = place(initial or build(config, len(classes)), device)
    averaged = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(parameter_groups(model, config))
    base = [float(g["lr"]) for g in optimizer.param_groups]
    pixels = torch.from_numpy(data.pixels).to(device)
    served = torch.from_numpy(validation.served).to(device)
    steps = max(1, len(data.labels) // config.batch)
    objective = Objective(config, data, len(classes), device, teacher)
    context = cutting(config)[0].context
    checkpoint = Checkpoint(out, config, classes)
    first, spent = checkpoint.resume(rng, model=model, averaged=averaged, optimizer=optimizer)
    schedule = Schedule(config.epochs * steps, config.minutes, spent=spent)
    share = _firsts(schedule.share(first * steps), accelerator)
    freeze(model, config.frozen)
    spread = accelerator.prepare(model) if world > 1 else model  # gradients averaged over processes
    bar = tqdm(
        range(first, config.epochs),
        desc=f"train {config.backbone}",
        unit="epoch",
        mininterval=5,
        disable=not accelerator.is_main_process,
    )
    for epoch in bar:
        model.train()
        freeze(model, config.frozen)
        shuffle = torch.Generator().manual_seed(config.seed * 100_003 + epoch)  # the same in every process
        order = torch.randperm(len(data.labels), generator=shuffle).tolist()
        rng.manual_seed(1 + config.seed * 100_003 + epoch * world + rank)  # of views and dropout: each process its own
        torch.manual_seed(rng.initial_seed())
        loss_sum = torch.zeros((), device=device)
        for step in range(steps):
            done = epoch * steps + step
            for group, lr in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = lr * schedule.factor(share)
            rows = order[step * config.batch : (step + 1) * config.batch][rank::world]
            index = torch.tensor(rows, device=device)
            x = augment(pixels[index], config.size, context, rng)
            loss = objective(spread, x, index, rng)
            take_step(loss, model, optimizer)
            average(averaged, model, min(config.ema, (done + 1) / (done + 10)))
            loss_sum += loss.detach()
            share = _firsts(schedule.share(done + 1), accelerator)
            if share >= 1:
                break
        _share_statistics(averaged, accelerator)
        guess = (predict(averaged, served)[0] + objective.absent).argmax(1).cpu().numpy()
        row = {"loss": float(loss_sum) / (step + 1), "val_accuracy": float((guess == validation.labels).mean())}
        bar.set_postfix(row)
        if accelerator.is_main_process:
            checkpoint.record(epoch=epoch + 1, seconds=schedule.seconds, share=share, **row)
            checkpoint.save(epoch + 1, schedule.seconds, rng, model=model, averaged=averaged, optimizer=optimizer)
        if share >= 1:
            break
    accelerator.wait_for_everyone()  # for the checkpoint too: whoever goes on may read it
    return averaged


def _firsts(share: float, accelerator: Accelerator) -> float:
    """How much of the run is done by the first process's clock: by clocks of their own, processes would take other
    learning rates, and one would end while the others wait for it."""
    if accelerator.num_processes == 1:
        return share
    return float(broadcast(torch.tensor(share, dtype=torch.float64, device=accelerator.device)))


def _share_statistics(model: nn.Module, accelerator: Accelerator) -> None:
    """Batch statistics as the first process saw them: gradients are averaged over processes, buffers are not."""
    if accelerator.num_processes > 1:
        for buffer in model.buffers():
            buffer.copy_(broadcast(buffer))


def start_from(model: CropResMoE, run: Path) -> None:
    """The averaged weights of an earlier run. Raises ValueError."""
    given, own = read_checkpoint(run / "checkpoint.pt")["averaged"], model.state_dict()
    wrong = [k for k in given if k not in own or own[k].shape != given[k].shape]
    wrong += [k for k in own if k not in given]
    if wrong:
        raise ValueError(f"{run}: trained on another backbone or other classes ({', '.join(wrong[:3])}, ...)")
    model.load_state_dict(given)


def main() -> None:
    args = trainer_arguments(
        "Train CropResMoE on damage crops",
        "cropresmoe-lite2",
        init="an earlier run on the same backbone, or a pack made one by export.convert.to_run, to start from",
        teacher="a run whose answers to learn from (`teacher` in the preset is their share of the loss)",
        pseudo="a COCO file of confident answers (export.cropresmoe.pseudo) to train on as well",
    )
    with commands_error():
        run(args)


def run(args: argparse.Namespace) -> None:
    """Everything that can be wrong is looked at before the first photo is opened."""
    config, labels = load_preset(Config, args.preset, minutes=args.minutes), load_labels()
    cut, protocol = cutting(config)
    if config.source not in labels.sources:
        raise ValueError(f"source {config.source!r} is none of labels.yaml: {', '.join(labels.sources)}")
    if (config.teacher > 0) != bool(args.teacher):
        raise ValueError("the preset's weight and --teacher belong together: give both or neither")
    if args.teacher and args.pseudo:
        raise ValueError("--teacher answers for labelled crops only: leave out --pseudo")
    classes = list(labels.vocabulary.classes)
    torch.manual_seed(config.seed)  # the head's first weights, the same in every process
    model = build(config, len(classes))
    if isinstance(model, CropResMoE):
        load_pretrained(model.backbone, args.weights)
        if args.init:
            start_from(model, args.init)
    names = labels.sources[config.source]
    for split in ("train", "val"):
        read_coco(args.data / "damage" / f"{split}.json", categories=names)
    options = {"protocol": protocol, "all_licences": args.all_licences}
    data, _ = load_crops(args.data, "train", labels, cut, **options)
    if args.pseudo:
        data = data.joined(load_crops(args.data, str(args.pseudo), labels, cut, protocol=protocol)[0])
    validation, _ = load_crops(args.data, "val", labels, cut, protocol=protocol, wide=False)
    taught, processes = None, PartialState()
    if args.teacher:
        with processes.main_process_first():  # the others read what it kept
            taught = teacher_answers(
                args.teacher, args.data, labels, protocol, args.out, all_licences=args.all_licences
            )
    counts = np.bincount(data.labels, minlength=len(classes)).tolist()
    said = ", ".join(f"{name} {n}" for name, n in zip(classes, counts, strict=True) if n)
    processes.print(f"{len(data.labels)} training crops: {said}")
    train(config, data, validation, classes, args.out, initial=model, teacher=taught)


if __name__ == "__main__":
    main()
