"""Labels from confident answers: `python -m export.cropresmoe.pseudo --photos FILE --data DATA --out pseudo.json`.

Item 21 of the paper: answers above tau become labels for another round of training (`train --pseudo`). Confident is
not right: a class is labelled only above the threshold at which its validation answers were right often enough (the
lower 95 % bound of their precision meets `--precision`), and not at all where there is none. FILE is a COCO file whose
boxes count and whose categories do not: a segmenter's boxes, or labels that nobody trusts.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from export.albert.dataset import open_pixels
from export.cropresmoe.blending import fit_taus
from export.cropresmoe.dataset import EVERY_BOX
from export.cropresmoe.evaluate import answers, pack_cut, run_pack, supported_mask
from export.data.coco import read_coco
from export.labels import Labels, load_labels
from export.training import commands_error
from services.common.serving.modelpack import Pack, load_pack
from services.common.vision.crops import cut_crops
from services.common.vision.vote import calibrated


def thresholds(pack: Pack, data: Path, precision: float) -> dict[str, float]:
    """Class -> probability above which it becomes a label; classes that validation does not vouch for are left out."""
    val = answers(pack, data, "val")
    taus = fit_taus(val.probabilities, val.labels, list(pack.manifest.vocabulary.classes), precision)
    return {name: tau for name, tau in taus.items() if tau < 1}


def pseudo_labels(pack: Pack, photos: Path, taus: dict[str, float], labels: Labels, folder: Path) -> dict[str, Any]:
    """A COCO file with the boxes whose answers are above their class' threshold; paths are relative to `folder`.

    Categories are those of the training source that are served as the class. Raises CocoError for a bad file.
    """
    names = list(pack.manifest.vocabulary.classes)
    source = {t.serves: name for name, t in labels.sources[EVERY_BOX.source].items() if t.serves in taus}
    ids = {name: i for i, name in enumerate(source.values(), start=1)}
    cut, masked = pack_cut(pack.manifest), supported_mask(pack.manifest)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for photo in tqdm(read_coco(photos).photos, desc="pseudo-labels", unit="photo", mininterval=5):
        if not photo.annotations:
            continue
        boxes = np.array([a.box for a in photo.annotations]) / np.array([photo.width, photo.height] * 2)
        crops = cut_crops(open_pixels(photo), boxes, size=cut.size, resize=cut.resize, context=cut.context)
        p = calibrated(run_pack(pack.read("fp32"), crops)[0], pack.manifest.temperature, masked)
        kept = [(a, names[r.argmax()], r.max()) for a, r in zip(photo.annotations, p, strict=True)]
        kept = [row for row in kept if row[1] in source and row[2] > taus[row[1]]]
        if not kept:
            continue
        name = os.path.relpath(photo.path, folder)
        images.append({"id": photo.id, "file_name": name, "width": photo.width, "height": photo.height})
        for a, name, score in kept:
            x0, y0, x1, y1 = a.box
            entry = {"id": len(annotations) + 1, "image_id": photo.id, "category_id": ids[source[name]]}
            box = [x0, y0, x1 - x0, y1 - y0]
            annotations.append({**entry, "bbox": box, "weak": "pseudo", "score": round(float(score), 4)})
    categories = [{"id": i, "name": name} for name, i in ids.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def main() -> None:
    parser = argparse.ArgumentParser(description="Turn confident answers into labels for another round of training.")
    parser.add_argument("--pack", type=Path, default=Path("models/cropresmoe"))
    parser.add_argument("--photos", type=Path, required=True, help="a COCO file whose boxes are to be labelled")
    parser.add_argument("--data", type=Path, required=True, help="its validation split sets the thresholds")
    parser.add_argument("--precision", type=float, default=0.9, help="that a class's answers must have (lower bound)")
    parser.add_argument("--out", type=Path, required=True, help="in the photos' folder or above it")
    args = parser.parse_args()
    with commands_error():
        if not args.photos.resolve().is_relative_to(args.out.resolve().parent):
            raise ValueError(f"{args.out}: put it beside {args.photos} or above: a COCO file names photos below itself")
        pack, labels = load_pack(args.pack), load_labels()
        taus = thresholds(pack, args.data, args.precision)
        print("thresholds:", ", ".join(f"{n} {t:g}" for n, t in taus.items()) or "no class is right often enough")
        made = pseudo_labels(pack, args.photos, taus, labels, args.out.resolve().parent)
        args.out.write_text(json.dumps(made), encoding="utf-8")
        counts = Counter(made["categories"][a["category_id"] - 1]["name"] for a in made["annotations"])
        print(f"{len(made['annotations'])} labels in {args.out}: {dict(counts)}")


if __name__ == "__main__":
    main()
