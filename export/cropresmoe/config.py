"""The settings of one training run of the classifier, the model they describe and the crops it wants."""

from __future__ import annotations

from dataclasses import dataclass

from export.cropresmoe.dataset import Cut, Protocol
from export.cropresmoe.model import HEADS, CropResMoE, RawMoE


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
    head: str = "moe"  # or linear, for baselines
    resize: str = "pad"  # or stretch, the paper's
    source: str = "damage6"  # label names as labels.yaml translates them; CarDD's are `cardd`
    view: str = "crop"  # or photo: the whole one, without its box (RawMoE, ResMoE-50)
    one_a_photo: bool = False  # the paper's protocol: one label a photo
    adaptive: float = 0.0  # how much gamma grows for classes that the model is unsure of
    teacher: float = 0.0  # share of the loss that is distillation; above 0 it wants --teacher
    heat: float = 2.0  # of the distillation
    ema: float = 0.998
    seed: int = 0


def build(config: Config, classes: int) -> CropResMoE | RawMoE:
    if config.backbone == "raw":
        return RawMoE(classes)
    return CropResMoE(config.backbone, classes, config.dropout, head=config.head)


def cutting(config: Config) -> tuple[Cut, Protocol]:
    """How a run's crops are cut and which they are. Raises ValueError for a word that means nothing."""
    if config.resize not in ("pad", "stretch") or config.view not in ("crop", "photo") or config.head not in HEADS:
        raise ValueError(f"resize is pad or stretch, view crop or photo, head {' or '.join(HEADS)}; not {config}")
    whole = config.view == "photo"
    # A photo is stretched whole: its border is where it ends, not where context begins.
    cut = Cut(config.size, 0.0 if whole else config.context, "stretch" if whole else config.resize)  # type: ignore[arg-type]
    return cut, Protocol(config.source, config.one_a_photo, whole)
