"""From a labelled damage set on disk to crops: wide ones for training, and exactly those that serving would cut."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from export.albert.dataset import DAMAGES, open_pixels
from export.cropresmoe.data import Crops, wide_crops
from export.cropresmoe.proposals import read_proposals
from export.data.coco import CocoError, Photo, clean_licence, read_coco
from export.labels import Labels
from services.common.vision.crops import cut_crops
from services.common.vision.resample import resize
from services.common.vision.size import size_class

SIZES = ("small", "medium", "large")
UNSUPPORTED = ("tire_flat",)  # its photos are frames of one wheel: nothing to learn a flat tyre from


@dataclass(frozen=True)
class Cut:
    """How serving cuts crops: it stands in the classifier pack's manifest."""

    size: int
    context: float
    resize: Literal["pad", "stretch"] = "pad"


def load_crops(
    data: Path,
    split: str,
    labels: Labels,
    cut: Cut,
    *,
    all_licences: bool = True,
    wide: bool = True,
    jitter: int | None = None,
    aspect: float | None = None,
    proposals: Path | None = None,
) -> tuple[Crops, list[Photo]]:
    """Every labelled box of a split as crops, and the photo of each crop; after them a photo's `proposals`.

    `jitter`: a seed; boxes are then scaled and shifted as a segmenter's are (IoU mostly 0.6 to 1). `aspect`: square
    photos are re-stretched to this width / height first. Raises CocoError when the split has no usable box.
    """
    path = data / "damage" / f"{split}.json"
    rng = np.random.default_rng(jitter)
    classes = list(labels.vocabulary.classes)
    proposed = read_proposals(proposals) if proposals else {}
    rows: dict[str, list[NDArray[np.generic]]] = {
        k: [] for k in ("pixels", "labels", "image", "size", "served", "presence")
    }
    photos: list[Photo] = []
    for number, photo in enumerate(
        tqdm(read_coco(path, categories=labels.sources[DAMAGES]).photos, desc=f"crops of {split}", mininterval=5)
    ):
        kept = [a for a in photo.annotations if labels.sources[DAMAGES][a.category].serves not in UNSUPPORTED]
        if not kept or not (all_licences or clean_licence(photo)):
            continue
        scale = np.array([photo.width, photo.height] * 2)
        boxes = np.array([a.box for a in kept]) / scale
        names = [a.category for a in kept]
        extra = proposed.get(photo.path.name, [])
        if jitter is not None:
            boxes = jittered(boxes, rng)
        boxes = np.concatenate([boxes, np.array([p.box for p in extra]).reshape(-1, 4)])
        pixels = open_pixels(photo)
        if aspect and photo.width == photo.height:
            pixels = cut_stretch(pixels, aspect)
        rows["served"].append(cut_crops(pixels, boxes, size=cut.size, resize=cut.resize, context=cut.context))
        rows["pixels"].append(wide_crops(pixels, boxes) if wide else np.zeros((len(boxes), 1, 1, 3), np.uint8))
        served = {None: -1} | {n: classes.index(labels.sources[DAMAGES][n].serves) for n in names}
        rows["labels"].append(np.array([served.get(n, -1) for n in [*names, *(p.label for p in extra)]], np.int64))
        rows["presence"].append(np.array([1.0] * len(names) + [p.presence for p in extra], np.float32))
        rows["image"].append(np.full(len(boxes), number, np.int64))
        rows["size"].append(np.array([SIZES.index(size_class(tuple(b))) for b in boxes.tolist()], np.int64))
        photos += [photo] * len(boxes)
    if not photos:
        raise CocoError(path, ["no labelled box that a classifier can learn from"])
    return Crops(**{k: np.concatenate(v) for k, v in rows.items()}), photos


def cut_stretch(pixels: NDArray[np.uint8], aspect: float) -> NDArray[np.uint8]:
    """A square photo stretched to width / height = aspect."""
    return resize(pixels, pixels.shape[0], round(pixels.shape[0] * aspect))


def jittered(boxes: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Boxes [n, 4] scaled by 0.8 to 1.25 per side and shifted by up to 12 %, clipped to the photo."""
    centre, extent = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    centre = centre + extent * rng.uniform(-0.12, 0.12, extent.shape)
    half = extent * np.exp(rng.uniform(np.log(0.8), np.log(1.25), extent.shape)) / 2
    out = np.concatenate([centre - half, centre + half], 1)
    low = np.clip(out[:, :2], 0, 0.999)
    return np.concatenate([low, np.maximum(np.clip(out[:, 2:], 0, 1), low + 1e-3)], 1)
