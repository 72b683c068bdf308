"""How well a segment pack tells fakes: `python -m export.albert.fakes --pack models/albert --data ../data`.

No labelled photos of mud, drips, stains or reflections exist. They are rendered onto the split's photos by a second
renderer that training never saw (`export.data.fakes_other`), and every number of them says `rendered`. What no renderer
is needed for, real damage called a fake, is measured on the photos as they are.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from export.albert.data import PartSets, Sample
from export.albert.dataset import PARTS, training_samples
from export.albert.evaluate import Predict
from export.albert.rendered import faked, predicted_parts, scaled
from export.albert.report import predictor
from export.data.fakes_other import add_fake
from export.evaluation import mask_iou
from export.labels import load_labels
from export.statistics import bootstrap_mean
from services.common.serving.modelpack import Metric, Pack, load_pack
from services.common.vision.instances import DecodedInstance, decode_instances
from services.common.vision.resample import resize

MET = 0.3  # IoU from which an instance answers for a mask: outlines of dirt are soft
SIDE = 576  # pixels that photos are rendered at
Answers = Mapping[str, list[tuple[bool, int]]]  # question -> (yes, photo)


def ask(pack: Pack, data: Path, split: str) -> Answers:
    """Run the pack on every photo of the split, as it is and with rendered fakes."""
    labels = load_labels()
    samples, _ = training_samples(data, split, labels, PartSets(labels, PARTS), side=SIDE, all_licences=True)
    predict, regions, rng = predictor(pack), predicted_parts(pack.folder), np.random.default_rng(0)
    answers: dict[str, list[tuple[bool, int]]] = defaultdict(list)
    for number, sample in enumerate(tqdm(samples, desc="fakes", unit="photo", mininterval=5)):
        real = _instances(pack, predict, sample)
        for instance in _answering(sample.masks, real):
            if instance:
                answers["real damage called a fake, of the found"].append((instance.kind == "fake", number))
        if not sample.masks:
            fakes = [i for i in real if i.kind == "fake"]
            answers["undamaged photo with a fake seen on it"].append((bool(fakes), number))
        version = faked(sample, regions(sample), rng, draw=add_fake)
        if version is None:
            continue
        seen, own = _instances(pack, predict, version), version.masks[len(sample.masks) :]
        for instance in _answering(own, seen):
            kind = instance.kind if instance else "none"
            answers["rendered fake found as a fake (recall)"].append((kind == "fake", number))
            answers["rendered fake taken for damage"].append((kind == "damage", number))
        for mask in (i.mask for i in seen if i.kind == "fake"):
            hit = mask_iou(mask[None], np.array([scaled(m, len(mask)) for m in own])).max() >= MET
            answers["listed fake is a rendered one (precision)"].append((bool(hit), number))
    return answers


def _instances(pack: Pack, predict: Predict, sample: Sample) -> list[DecodedInstance]:
    manifest = pack.manifest
    found = decode_instances(
        predict(resize(sample.pixels, manifest.input.height, manifest.input.width)),
        vocabulary=manifest.vocabulary,
        supported=manifest.supported,
        thresholds=manifest.thresholds,
    )
    return [instance for instance in found if instance.kind != "part"]


def _answering(truths: list[NDArray[np.bool_]], found: list[DecodedInstance]) -> list[DecodedInstance | None]:
    """For each true mask the instance that covers it best, or None."""
    if not found or not truths:
        return [None] * len(truths)
    masks = np.array([i.mask for i in found])
    iou = mask_iou(np.array([scaled(t, masks.shape[1]) for t in truths]), masks)
    return [found[int(row.argmax())] if row.max() >= MET else None for row in iou]


def fake_metrics(pack: Pack, data: Path, split: str) -> list[Metric]:
    """The answers as shares, each with n and a 95 % interval over photos."""
    command = f"python -m export.albert.fakes --pack models/{pack.manifest.name} --data DATA --split {split}"
    rows = []
    for question, pairs in ask(pack, data, split).items():
        yes, photo = np.array([y for y, _ in pairs]), np.array([p for _, p in pairs])
        low, high = bootstrap_mean(yes, photo)
        value = round(float(yes.mean()), 4)
        interval = (round(low, 4), round(high, 4))
        rows.append(
            Metric(
                name=question,
                value=value,
                n=len(yes),
                ci95=interval,
                split=split,
                command=command,
                date=date.today().isoformat(),
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how a segment pack tells fakes from damage.")
    parser.add_argument("--pack", type=Path, default=Path("models/albert"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    args = parser.parse_args()
    print("| what | value | 95 % interval | n |\n|---|---|---|---|")
    for m in fake_metrics(load_pack(args.pack), args.data, args.split):
        low, high = m.ci95 or (float("nan"), float("nan"))
        print(f"| {m.name} | {m.value:.3f} | {low:.3f} to {high:.3f} | {m.n} |")


if __name__ == "__main__":
    main()
