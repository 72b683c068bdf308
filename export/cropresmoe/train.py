"""Train CropResMoE on damage crops: `python -m export.cropresmoe.train --data ../data --out runs/cls`.

Every epoch writes a checkpoint; the same command goes on where it stopped. The weights that are kept are an
exponential moving average.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from export.config import load_preset
from export.cropresmoe.data import Crops, augment
from export.cropresmoe.dataset import Cut, load_crops
from export.cropresmoe.model import CropResMoE, RawMoE
from export.efficientnet_lite import EfficientNetLite, load_imagenet
from export.labels import load_labels
from export.resnet import load_resnet50
from export.training import Checkpoint, Schedule, average, best_device, fast_bf16, place, take_step, trainer_arguments


@dataclass(frozen=True)
class Config:
    """One training run. paper: AdamW at 2e-1, a misprint; here: 2e-4 to 1e-3 with a cosine (table c)."""

    backbone: str = "lite2"
    size: int = 224  # S, pixels
    context: float = 0.2
    frozen: int = 2  # backbone blocks that keep their ImageNet weights
    epochs: int = 60
    minutes: float = 0.0  # time budget instead of epochs (see Schedule)
    batch: int = 32
    lr: float = 1e-3  # of the head; the backbone takes backbone_lr
    backbone_lr: float = 3e-4
    weight_decay: float = 0.02
    gamma: float = 0.0  # focal loss; 0 is cross-entropy
    smoothing: float = 0.1
    balance: float = 0.5  # class weights n^-balance
    importance: float = 0.01  # weight of the load-balancing loss over experts
    dropout: float = 0.3
    mixup: float = 0.0
    presence: float = 0.0  # weight of the loss of "is there a damage at all"; above 0 it wants --proposals
    ema: float = 0.998
    seed: int = 0


def build(config: Config, classes: int) -> nn.Module:
    if config.backbone == "raw":
        return RawMoE(classes)
    return CropResMoE(config.backbone, classes, config.dropout, presence=config.presence > 0)


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


def focal_loss(logits: Tensor, target: Tensor, weights: Tensor, gamma: float) -> Tensor:
    """Focal loss on soft targets [B, C]; gamma 0 is cross-entropy. `weights` [C] are the class-wise alpha."""
    logp = F.log_softmax(logits, -1)
    per = -(target * weights * (1 - logp.exp()) ** gamma * logp).sum(-1)
    return per.sum() / (target * weights).sum(-1).sum().clamp(min=1e-6)


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
    device: torch.device,
    initial: nn.Module | None = None,
) -> nn.Module:
    """Train and return the averaged model; `out/checkpoint.pt` resumes, `out/log.jsonl` keeps the curve."""
    torch.manual_seed(config.seed)
    rng = torch.Generator().manual_seed(config.seed)
    model = place(initial or build(config, len(classes)), device)
    averaged = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(parameter_groups(model, config))
    base = [float(g["lr"]) for g in optimizer.param_groups]
    pixels = torch.from_numpy(data.pixels).to(device)
    labels = torch.from_numpy(data.labels).to(device)
    served = torch.from_numpy(validation.served).to(device)
    steps = max(1, len(data.labels) // config.batch)
    presence = torch.from_numpy(data.presence).to(device)
    counts = np.bincount(data.labels[data.labels >= 0], minlength=len(classes)).astype(np.float32)
    weights = np.where(counts > 0, np.maximum(counts, 1) ** -config.balance, 0.0)
    alpha = torch.tensor(weights / weights[counts > 0].mean(), dtype=torch.float32, device=device)
    absent = torch.tensor(np.where(counts > 0, 0.0, -1e4), dtype=torch.float32, device=device)  # never a distractor
    checkpoint = Checkpoint(out, config)
    first, spent = checkpoint.resume(rng, model=model, averaged=averaged, optimizer=optimizer)
    schedule = Schedule(config.epochs * steps, config.minutes, spent=spent)
    bar = tqdm(range(first, config.epochs), desc=f"train {config.backbone}", unit="epoch", mininterval=5)
    for epoch in bar:
        model.train()
        freeze(model, config.frozen)
        order = torch.randperm(len(labels), generator=rng).tolist()
        loss_sum = torch.zeros((), device=device)
        for step in range(steps):
            done = epoch * steps + step
            factor = schedule.factor(done)
            for group, lr in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = lr * factor
            index = torch.tensor(order[step * config.batch : (step + 1) * config.batch], device=device)
            x = augment(pixels[index], config.size, config.context, rng)
            target = _smoothed(labels[index], absent == 0, config.smoothing)
            x, target = _mixup(x, target, config.mixup, rng)
            loss = _loss(model, x, target, presence[index], alpha=alpha, absent=absent, config=config)
            take_step(loss, model, optimizer)
            average(averaged, model, min(config.ema, (done + 1) / (done + 10)))
            loss_sum += loss.detach()
            if schedule.share(done + 1) >= 1:
                break
        guess = (predict(averaged, served)[0] + absent).argmax(1).cpu().numpy()
        row = {"loss": float(loss_sum) / (step + 1), "val_accuracy": float((guess == validation.labels).mean())}
        bar.set_postfix(row)
        checkpoint.record(epoch=epoch + 1, seconds=schedule.seconds, share=schedule.share(done), **row)
        checkpoint.save(epoch + 1, schedule.seconds, rng, model=model, averaged=averaged, optimizer=optimizer)
        if schedule.share(done + 1) >= 1:
            break
    return averaged


def _loss(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    presence: Tensor,
    *,
    alpha: Tensor,
    absent: Tensor,
    config: Config,
) -> Tensor:
    """Focal loss of the classes [B, C], balanced load over experts, and where it is taught the loss of presence [B]."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=fast_bf16(x.device)):
        logits, gates, features = model(x)
        present = model.presence_of(features) if isinstance(model, CropResMoE) else None
    loss: Tensor = focal_loss(logits.float() + absent, target, alpha, config.gamma)
    load = gates.float().mean(0)
    loss = loss + config.importance * (load.std() / load.mean()) ** 2  # balanced load over experts
    if present is not None:
        loss = loss + config.presence * F.binary_cross_entropy_with_logits(present.float(), presence)
    return loss


def _smoothed(labels: Tensor, present: Tensor, smoothing: float) -> Tensor:
    """One-hot targets [B, C], smoothed over the classes that are `present` [C]; all zero for a label of -1."""
    hot = F.one_hot(labels.clamp(min=0), len(present)).float()
    return (hot * (1 - smoothing) + smoothing * present.float() / present.sum()) * (labels >= 0)[:, None]


def _mixup(x: Tensor, target: Tensor, alpha: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mixup of crops and targets with a per-batch share from Beta(alpha, alpha); off at 0."""
    if alpha <= 0:
        return x, target
    share = float(np.random.default_rng(int(torch.randint(2**31, (1,), generator=rng))).beta(alpha, alpha))
    other = torch.randperm(len(x), generator=rng).to(x.device)
    mixed = share * x.float() + (1 - share) * x[other].float()
    return mixed.to(torch.uint8), share * target + (1 - share) * target[other]


def start_from(model: CropResMoE, run: Path) -> None:
    """The averaged weights of an earlier run; a presence head that it did not have stays new. Raises ValueError."""
    weights = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)["averaged"]
    missing, unknown = model.load_state_dict(weights, strict=False)
    if unknown or any(not name.startswith("presence.") for name in missing):
        raise ValueError(f"{run}: trained on another backbone ({', '.join([*missing, *unknown][:3])}, ...)")


def main() -> None:
    args = trainer_arguments(
        "Train CropResMoE on damage crops",
        "cropresmoe-lite2",
        init="an earlier run on the same backbone whose weights to start from",
        proposals="what a segmenter takes for damage (export.cropresmoe.proposals): teaches presence",
    )
    config, labels = load_preset(Config, args.preset, minutes=args.minutes), load_labels()
    cut = Cut(config.size, config.context)
    if (config.presence > 0) != bool(args.proposals):
        raise SystemExit("presence in the preset and --proposals belong together: give both or neither")
    data, _ = load_crops(args.data, "train", labels, cut, all_licences=args.all_licences, proposals=args.proposals)
    validation, _ = load_crops(args.data, "val", labels, cut, wide=False)
    classes = list(labels.vocabulary.classes)
    counts = {
        name: n
        for name, n in zip(
            classes, np.bincount(data.labels[data.labels >= 0], minlength=len(classes)).tolist(), strict=True
        )
        if n
    }
    print(f"{len(data.labels)} training crops, {int((data.labels < 0).sum())} of them not on a damage: {counts}")
    model = build(config, len(classes))
    if isinstance(model, CropResMoE):
        if isinstance(model.backbone, EfficientNetLite):
            load_imagenet(model.backbone, args.weights)
        elif args.weights:
            load_resnet50(model.backbone, args.weights)
        if args.init:
            start_from(model, args.init)
    train(config, data, validation, classes, args.out, device=best_device(), initial=model)


if __name__ == "__main__":
    main()
