"""The whole walk on labelled photos: `python -m export.walk --data ../data`: predicted box -> class -> part.

The packs' own graphs and the serving code, without HTTP. A labelled damage counts as found when a listed damage
overlaps its mask at IoU >= 0.3 (labels of thin damages are drawn far wider than the damage); of the found ones the
class of the second opinion is compared, and, where the source words name a part, the part it was placed on.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from export.albert.dataset import DAMAGES, truths
from export.albert.evaluate import Truth
from export.albert.report import predictor
from export.convert.to_onnx import session
from export.cropresmoe.evaluate import supported_mask
from export.data.coco import Photo
from export.evaluation import mask_iou
from export.labels import Labels, load_labels
from export.statistics import bootstrap_mean
from services.common.serving.modelpack import Pack, load_pack
from services.common.vision.crops import cut_crops
from services.common.vision.instances import DecodedInstance, decode_instances
from services.common.vision.parts import LEAST_SHARE
from services.common.vision.resample import resize
from services.common.vision.vote import calibrated

FOUND = 0.3  # IoU
WORDS = "damage6_words"  # the source words that name a part: door, bumper, head lamp, tail lamp, glass


@dataclass
class Tally:
    """Outcomes per question, each with the photo it belongs to."""

    hits: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    photos: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, question: str, hit: bool, photo: int) -> None:
        self.hits[question].append(hit)
        self.photos[question].append(photo)

    def table(self) -> list[str]:
        rows = ["| what | value | 95 % interval | n |", "|---|---|---|---|"]
        for question, hits in self.hits.items():
            low, high = bootstrap_mean(np.array(hits), np.array(self.photos[question]))
            rows.append(f"| {question} | {np.mean(hits):.3f} | {low:.3f} to {high:.3f} | {len(hits)} |")
        return rows


def word_parts(labels: Labels, source_label: str) -> set[str]:
    """Parts that a source label's words allow ("bumper_dent/bumper" -> both bumpers); empty when they name none."""
    for key, target in labels.sources[WORDS].items():
        if source_label.startswith(key):
            return set(target.names)
    return set()


def part_of(damage: DecodedInstance) -> str | None:
    """The part that serving would name, or None."""
    return next((name for name, share in damage.on if share >= LEAST_SHARE), None)


def walk(segment: Pack, classify: Pack, photos: list[tuple[Truth, Photo]], labels: Labels) -> Tally:
    predict, classifier = predictor(segment), session(classify.read("fp32"))
    seg, cls = segment.manifest, classify.manifest
    names, supported = list(cls.vocabulary.classes), supported_mask(cls)
    tally = Tally()
    for truth, photo in tqdm(photos, desc="walk", unit="photo", mininterval=5):
        if not truth.damages:
            continue
        outputs = predict(resize(truth.pixels, seg.input.height, seg.input.width))
        found = decode_instances(outputs, vocabulary=seg.vocabulary, supported=seg.supported, thresholds=seg.thresholds)
        damages = [f for f in found if f.kind == "damage"]
        opinions: NDArray[np.float64] = np.zeros((0, len(names)))
        if damages:
            boxes = [d.box for d in damages]
            crops = cut_crops(
                truth.pixels, boxes, size=cls.input.height, resize=cls.input.resize, context=cls.input.context
            )
            opinions = calibrated(classifier.run(["logits"], {"crops": crops})[0], cls.temperature, supported)
        masks = on_grid([m for _, m in truth.damages], outputs["mask_logits"].shape[1] * 2)
        iou = mask_iou(masks, np.array([d.mask for d in damages]).reshape(-1, *masks.shape[1:]))
        for row, annotation in enumerate(photo.annotations):
            hit = iou.shape[1] > 0 and float(iou[row].max()) >= FOUND
            tally.add("labelled damages found (IoU 0.3)", hit, photo.id)
            right = False
            if hit:
                best = int(iou[row].argmax())
                target = labels.sources[DAMAGES][annotation.category]
                right = names[int(opinions[best].argmax())] == target.serves
                agreed = seg.vocabulary.agrees(damages[best].label, target.serves)
                tally.add("of these, second opinion right", right, photo.id)
                tally.add("of these, segmenter's name right", agreed, photo.id)
                allowed = word_parts(labels, annotation.source_label)
                if allowed:
                    tally.add("of these, part right (source words)", part_of(damages[best]) in allowed, photo.id)
            tally.add("labelled damages found with the right class", right, photo.id)
    return tally


def on_grid(masks: list[NDArray[np.bool_]], grid: int) -> NDArray[np.bool_]:
    """Masks of any size as bool [n, grid, grid]."""
    return np.array(
        [resize(np.repeat(m[..., None], 3, 2).astype(np.uint8) * 255, grid, grid)[..., 0] > 127 for m in masks]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Score photo -> box -> class -> part on a labelled split.")
    parser.add_argument("--segmenter", type=Path, default=Path("models/albert"))
    parser.add_argument("--classifier", type=Path, default=Path("models/cropresmoe"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    args = parser.parse_args()
    labels = load_labels()
    photos = list(truths(args.data, args.split, labels))
    print("\n".join(walk(load_pack(args.segmenter), load_pack(args.classifier), photos, labels).table()))


if __name__ == "__main__":
    main()
