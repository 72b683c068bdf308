"""From the labelled sets on disk to training samples and evaluation truths.

`<data>/damage/<split>.json` holds photos with damages, `<data>/parts/<split>.json` photos of undamaged cars with their
parts; either may be missing. Licences are respected by default: only photos `clean_licence` accepts are trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.albert.data import MASK_SIDE, PartSets, Sample
from export.albert.evaluate import Truth
from export.data.coco import CocoError, CocoSet, Photo, clean_licence, read_coco
from export.labels import Labels
from services.common.vision.masks import components
from services.common.vision.resample import resize

DAMAGES, PARTS = "damage6", "parts18"  # the sources in labels.yaml that name their labels
_LEAST_CELLS = 4  # of a mask at MASK_SIDE; smaller ones are noise
# How often a photo is drawn, beside 1 for a damaged car: part masks are few and hard, undamaged cars without part masks
# teach little more than "no damage".
_SHARES = {"damage": 1.0, "parts": 1.6, "negative": 0.3}


def open_pixels(photo: Photo) -> NDArray[np.uint8]:
    """uint8 [h, w, 3]."""
    with Image.open(photo.path) as picture:
        return np.asarray(picture.convert("RGB"))


def read_set(data: Path, kind: str, split: str, labels: Labels) -> CocoSet | None:
    """`<data>/<kind>/<split>.json`, or None where there is no such file. Raises CocoError for a bad one."""
    path = data / kind / f"{split}.json"
    source = {"damage": DAMAGES, "parts": PARTS}[kind]
    return read_coco(path, categories=labels.sources[source]) if path.exists() else None


def training_samples(
    data: Path, split: str, labels: Labels, sets: PartSets, *, side: int, all_licences: bool = False
) -> tuple[list[Sample], list[float]]:
    """Samples stretched to side x side, and how often each is drawn. Raises CocoError when there are none."""
    samples: list[Sample] = []
    shares: list[float] = []
    damage, parts = read_set(data, "damage", split, labels), read_set(data, "parts", split, labels)
    for photo in damage.outlined().photos if damage else ():
        if all_licences or clean_licence(photo):
            samples.append(_damage_sample(photo, labels, side))
            shares.append(_SHARES["damage"])
    for photo in parts.photos if parts else ():
        outlined = all(a.has_mask for a in photo.annotations)
        samples.append(
            Sample(resize(open_pixels(photo), side, side), [], [], _part_map(photo, sets) if outlined else None)
        )
        shares.append(_SHARES["parts" if outlined else "negative"])
    if not samples:
        raise CocoError(
            data, [f"no photo of split {split!r} to train on: want damage/{split}.json or parts/{split}.json"]
        )
    return samples, shares


def _damage_sample(photo: Photo, labels: Labels, side: int) -> Sample:
    masks, names = [], []
    for a in photo.annotations:
        mask = photo.mask(a, MASK_SIDE, MASK_SIDE)
        if mask.sum() >= _LEAST_CELLS:
            masks.append(mask)
            names.append(labels.sources[DAMAGES][a.category].names)
    return Sample(resize(open_pixels(photo), side, side), masks, names)


def _part_map(photo: Photo, sets: PartSets) -> NDArray[np.uint8]:
    """[MASK_SIDE, MASK_SIDE] of label rows; smaller parts lie over larger ones (a lamp over a bumper)."""
    out = np.zeros((MASK_SIDE, MASK_SIDE), np.uint8)
    masks = [(sets.index[a.category], photo.mask(a, MASK_SIDE, MASK_SIDE)) for a in photo.annotations]
    for row, mask in sorted(masks, key=lambda m: -int(m[1].sum())):
        out[mask] = row
    return out


def served_names(labels: Labels, source: str) -> dict[str, str]:
    """Source label -> the name it is served as: the one fine name, the coarse one, or the first of a set."""
    coarse = {c.name for c in labels.vocabulary.coarse}
    return {label: label if label in coarse else target.names[0] for label, target in labels.sources[source].items()}


def truths(data: Path, split: str, labels: Labels, *, aspect: float | None = None) -> Iterator[tuple[Truth, Photo]]:
    """Every evaluable photo of a split, damages first. `aspect` re-stretches square photos to width / height."""
    damage_names, part_names = served_names(labels, DAMAGES), served_names(labels, PARTS)
    damage, parts = read_set(data, "damage", split, labels), read_set(data, "parts", split, labels)
    for photo in damage.outlined().photos if damage else ():
        pixels = _restretched(open_pixels(photo), aspect)
        found = [(damage_names[a.category], photo.mask(a, MASK_SIDE, MASK_SIDE)) for a in photo.annotations]
        primer = photo.negative == "primer_repair_patch" and not found
        yield Truth(pixels, found, None, photo.negative == "undamaged_car", primer), photo
    for photo in parts.photos if parts else ():
        outlined = all(a.has_mask for a in photo.annotations)
        yield Truth(open_pixels(photo), [], _part_truths(photo, part_names, labels) if outlined else None, True), photo


def _part_truths(photo: Photo, names: dict[str, str], labels: Labels) -> list[tuple[str, NDArray[np.bool_]]]:
    """Part instances as served: one mask a fine part, one a connected piece of a coarse one."""
    coarse = {c.name for c in labels.vocabulary.coarse}
    together: dict[str, NDArray[np.bool_]] = {}
    apart: list[tuple[str, NDArray[np.bool_]]] = []
    for a in photo.annotations:
        name, mask = names[a.category], photo.mask(a, MASK_SIDE, MASK_SIDE)
        if name in coarse:
            apart += [(name, piece) for piece in components(mask, 0.0)[:1]]
        else:
            together[name] = together[name] | mask if name in together else mask
    return [*together.items(), *apart]


def _restretched(pixels: NDArray[np.uint8], aspect: float | None) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    return resize(pixels, height, round(height * aspect)) if aspect and height == width else pixels


def supported_names(labels: Labels, *, fakes: bool) -> dict[str, list[str]]:
    """The names that these photos teach, per group of a manifest. Flat tyres have no outlined photo.

    `fakes`: whether fakes were rendered onto them.
    """
    coarse = {c.name for c in labels.vocabulary.coarse}
    parts = set(served_names(labels, PARTS).values())
    damages = {name for label, name in served_names(labels, DAMAGES).items() if label != "tire_flat"}
    return {
        "damages": [d.name for d in labels.vocabulary.damages if d.name in damages],
        "fakes": [f.name for f in labels.vocabulary.fakes] if fakes else [],
        "parts": [p.name for p in labels.vocabulary.parts if p.name in parts],
        "coarse": [c.name for c in labels.vocabulary.coarse if c.name in parts & coarse],
    }
