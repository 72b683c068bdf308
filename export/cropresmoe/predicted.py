"""Crops from a segmenter's boxes instead of drawn ones: what the classifier really gets to see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from export.albert.dataset import DAMAGES, truths
from export.albert.report import predictor
from export.cropresmoe.data import Crops
from export.cropresmoe.dataset import SIZES, Cut
from export.data.coco import Photo
from export.evaluation import mask_iou
from export.labels import Labels
from export.walk import FOUND, on_grid
from services.common.serving.modelpack import Pack
from services.common.vision.crops import cut_crops
from services.common.vision.instances import decode_instances
from services.common.vision.resample import resize
from services.common.vision.size import size_class


def predicted_crops(segment: Pack, data: Path, split: str, labels: Labels, cut: Cut) -> tuple[Crops, list[Photo], int]:
    """One crop per labelled damage that the segmenter found (mask IoU >= 0.3), cut from its own box; the photo of
    each; and how many labelled damages there were. Only outlined photos can be matched."""
    predict, shape = predictor(segment), segment.manifest.input
    classes, names = list(labels.vocabulary.classes), labels.sources[DAMAGES]
    rows: dict[str, list[NDArray[np.generic]]] = {k: [] for k in ("labels", "image", "size", "served")}
    photos: list[Photo] = []
    labelled = 0
    for truth, photo in tqdm(list(truths(data, split, labels)), desc="predicted boxes", unit="photo", mininterval=5):
        labelled += len(truth.damages)
        if not truth.damages:
            continue
        outputs = predict(resize(truth.pixels, shape.height, shape.width))
        found = decode_instances(
            outputs,
            vocabulary=segment.manifest.vocabulary,
            supported=segment.manifest.supported,
            thresholds=segment.manifest.thresholds,
        )
        damages = [d for d in found if d.kind == "damage"]
        if not damages:
            continue
        masks = on_grid([m for _, m in truth.damages], outputs["mask_logits"].shape[1] * 2)
        iou = mask_iou(masks, np.array([d.mask for d in damages]))
        hit = np.flatnonzero(iou.max(1) >= FOUND)
        boxes = np.array([damages[i].box for i in iou.argmax(1)[hit]]).reshape(-1, 4)
        if not len(hit):
            continue
        rows["served"].append(cut_crops(truth.pixels, boxes, size=cut.size, resize=cut.resize, context=cut.context))
        drawn = [photo.annotations[i].category for i in hit]
        rows["labels"].append(np.array([classes.index(names[n].serves) for n in drawn]))
        rows["image"].append(np.full(len(hit), photo.id))
        rows["size"].append(np.array([SIZES.index(size_class(tuple(b))) for b in boxes.tolist()]))
        photos += [photo] * len(hit)
    served = np.concatenate([*rows["served"], np.zeros((0, cut.size, cut.size, 3), np.uint8)])
    kept = {k: np.concatenate([*rows[k], np.zeros(0, np.int64)]).astype(np.int64) for k in ("labels", "image", "size")}
    nothing = np.zeros((len(served), 1, 1, 3), np.uint8)  # nobody trains on these
    crops = Crops(pixels=nothing, served=served, **kept)
    return crops, photos, labelled
