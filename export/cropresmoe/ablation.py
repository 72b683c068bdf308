"""RawMoE -> ResMoE-50 -> CropResMoE-50, trained and measured: `python -m export.cropresmoe.ablation --data ../data`.

Four runs on the same photos, the last three with the same time budget: flattened pixels, ResNet-50 on whole photos,
ResNet-50 on damage crops, and the last one taught by a better model as well. Runs that are finished are not made again,
a run that was interrupted goes on. Rows go to `results.json`, which `export.cropresmoe.report` shows.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from export.cropresmoe.config import Config, cutting
from export.cropresmoe.dataset import load_crops
from export.cropresmoe.features import features, teacher_answers
from export.cropresmoe.results import Result, keep, markdown, measure, read
from export.cropresmoe.runs import load_model
from export.cropresmoe.train import train
from export.labels import Labels, load_labels
from export.training import commands_error


@dataclass(frozen=True)
class Step:
    """One row of the ablation: a name and what differs from the common settings."""

    name: str
    settings: dict[str, Any]
    share: float = 1.0  # of the time budget


_WHOLE = {"view": "photo", "one_a_photo": True}
STEPS = (
    Step("RawMoE", {"backbone": "raw", **_WHOLE}, share=0.2),  # one of its steps costs a hundredth of ResNet-50's
    Step("ResMoE-50", {"backbone": "resnet50", **_WHOLE}),
    Step("CropResMoE-50", {"backbone": "resnet50"}),
    Step("CropResMoE-50, distilled", {"backbone": "resnet50", "teacher": 0.7}),
)


def settings(step: Step, common: Config) -> Config:
    # From scratch: nothing is frozen, and the whole net takes the head's learning rate.
    budget = common.minutes * step.share
    return replace(common, frozen=0, backbone_lr=common.lr, minutes=budget, **step.settings)


def run_step(step: Step, config: Config, args: argparse.Namespace, labels: Labels) -> None:
    """Train one row, unless its run is finished already."""
    out = args.out / step.name.lower().replace(", ", "-")
    log = out / "log.jsonl"
    if log.exists() and json.loads(log.read_text().splitlines()[-1])["share"] >= 1:
        return
    cut, protocol = cutting(config)
    options = {"protocol": protocol, "all_licences": args.all_licences}
    answers = (
        teacher_answers(args.teacher, args.data, labels, protocol, args.out, all_licences=args.all_licences)
        if config.teacher
        else None
    )
    data, _ = load_crops(args.data, "train", labels, cut, **options)
    validation, _ = load_crops(args.data, "val", labels, cut, protocol=protocol, wide=False)
    train(config, data, validation, list(labels.vocabulary.classes), out, teacher=answers)


def measure_step(step: Step, config: Config, args: argparse.Namespace, labels: Labels) -> list[Result]:
    """The row on one sample a photo; where the model sees crops, on every box as well."""
    out = args.out / step.name.lower().replace(", ", "-")
    model, _ = load_model(out, list(labels.vocabulary.classes))
    cut, protocol = cutting(config)
    curve = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    n = "whole photos" if protocol.whole else "crops"
    training = f"{n} at {config.size if config.backbone != 'raw' else 64} px, {len(curve)} epochs, "
    training += f"{curve[-1]['seconds'] / 60:.0f} minutes, no pretrained weights"
    command = f"python -m export.cropresmoe.ablation --data DATA --minutes {args.minutes:g} --size {args.size}"
    rows = []
    for one in (True, False):
        if protocol.whole and not one:
            continue
        given = replace(protocol, one_a_photo=one)
        found = features(model, args.data, args.split, labels, cut=cut, cache=args.out / "cache", protocol=given)
        rows.append(
            measure(
                found.logits,
                found.labels,
                found.image,
                protocol.taught(labels),
                size=found.size,
                table="ablation",
                name=step.name,
                samples="one a photo" if one else "every box",
                training=training,
                split=args.split,
                command=command,
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and measure RawMoE, ResMoE-50 and CropResMoE-50; resumes.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--teacher", type=Path, required=True, help="the run whose answers the last row learns from")
    parser.add_argument("--minutes", type=float, default=60, help="time budget of each run")
    parser.add_argument("--size", type=int, default=224, help="side of the crops in pixels")
    parser.add_argument("--split", default="test")
    parser.add_argument("--all-licences", action="store_true", help="train on photos of unclear licence too")
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    labels = load_labels()
    common = Config(size=args.size, minutes=args.minutes, epochs=10_000, smoothing=0.1, dropout=0.2)
    with commands_error():
        for step in STEPS:
            config = settings(step, common)
            run_step(step, config, args, labels)
            keep(args.out / "results.json", measure_step(step, config, args, labels))
        print("\n".join(markdown(read(args.out / "results.json"))))


if __name__ == "__main__":
    main()
