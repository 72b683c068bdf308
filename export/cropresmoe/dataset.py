"""From a labelled damage set on disk to crops: wide ones for training, and exactly those that serving would cut."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from export.albert.dataset import DAMAGES, open_pixels
from export.cropresmoe.data import Crops, wide_crops, wide_side
from export.data.coco import Annotation, CocoError, Photo, clean_licence, read_coco
from export.labels import Labels
from services.common.vision.crops import cut_crops
from services.common.vision.resample import resize
from services.common.vision.size import size_class

SIZES = ("small", "medium", "large")
# Labels that a source has and nothing can be learned from: its flat tyres are frames of one wheel.
UNSUPPORTED = {DAMAGES: ("tire_flat",)}


@dataclass(frozen=True)
class Cut:
    """How serving cuts crops: it stands in the classifier pack's manifest."""

    size: int
    context: float
    resize: Literal["pad", "stretch"] = "pad"


@dataclass(frozen=True)
class Protocol:
    """Which samples a labelled photo gives.

    `source`: the label names, as `labels.yaml` translates them. `one_a_photo`: the paper's protocol, in which a photo
    has one label, the lowest category id, and one box, the first of that category; otherwise every box is a sample of
    its own. `whole`: the sample shows the whole photo, not its box (RawMoE, ResMoE-50).
    """

    source: str = DAMAGES
    one_a_photo: bool = False
    whole: bool = False

    def samples(self, photo: Photo, order: tuple[str, ...]) -> list[Annotation]:
        """The annotations of a photo that are samples; `order`: category names by id."""
        unsupported = UNSUPPORTED.get(self.source, ())
        kept = [a for a in photo.annotations if a.category not in unsupported]
        if self.one_a_photo and kept:
            return [min(kept, key=lambda a: order.index(a.category))]  # min keeps the first of equals
        return kept

    def taught(self, labels: Labels) -> NDArray[np.bool_]:
        """bool [C]: the classes that the source's labels can teach."""
        names = labels.sources[self.source].items()
        served = {t.serves for name, t in names if name not in UNSUPPORTED.get(self.source, ())}
        return np.isin(labels.vocabulary.classes, sorted(served))


EVERY_BOX = Protocol()


def load_crops(
    data: Path,
    split: str,
    labels: Labels,
    cut: Cut,
    *,
    protocol: Protocol = Protocol(),  # frozen
    all_licences: bool = True,
    wide: bool = True,
    jitter: int | None = None,
    aspect: float | None = None,
) -> tuple[Crops, list[Photo]]:
    """Every sample of a split as crops, and the photo of each crop.

    `split`: train, val, test, or the path of a COCO file.
    `jitter`: a seed; boxes are then scaled and shifted as a segmenter's are (IoU mostly 0.6 to 1). `aspect`: square
    photos are re-stretched to this width / height first. Raises CocoError when the split has no usable box.
    """
    path = Path(split) if split.endswith(".json") else data / "damage" / f"{split}.json"
    rng = np.random.default_rng(jitter)
    classes = list(labels.vocabulary.classes)
    side = wide_side(cut.size, cut.context)
    names = labels.sources[protocol.source]
    served = {n: classes.index(t.serves) for n, t in names.items() if t.serves}
    rows: dict[str, list[NDArray[np.generic]]] = {k: [] for k in ("pixels", "labels", "image", "size", "served")}
    photos: list[Photo] = []
    coco = read_coco(path, categories=names)
    for number, photo in enumerate(tqdm(coco.photos, desc=f"crops of {split}", mininterval=5)):
        kept = protocol.samples(photo, coco.categories)
        if not kept or not (all_licences or clean_licence(photo)):
            continue
        boxes = np.array([a.box for a in kept]) / np.array([photo.width, photo.height] * 2)
        if jitter is not None:
            boxes = jittered(boxes, rng)
        pixels = open_pixels(photo)
        if aspect and photo.width == photo.height:
            pixels = cut_stretch(pixels, aspect)
        shown = np.tile([0.0, 0.0, 1.0, 1.0], (len(boxes), 1)) if protocol.whole else boxes
        rows["served"].append(cut_crops(pixels, shown, size=cut.size, resize=cut.resize, context=cut.context))
        rows["pixels"].append(
            wide_crops(pixels, shown, side=side, resize=cut.resize)
            if wide
            else np.zeros((len(boxes), 1, 1, 3), np.uint8)
        )
        rows["labels"].append(np.array([served[a.category] for a in kept], np.int64))
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
