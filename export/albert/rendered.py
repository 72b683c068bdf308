"""Training photos with fake damages rendered onto them: mud, drips, stains, shadows and the like, with exact masks.

No labelled photos of these exist, so a share of the training photos is given a second version. What a segmenter learns
from it is measured on a second renderer that training never saw (`export.albert.fakes`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from export.albert.data import MASK_SIDE, Sample
from export.albert.report import predictor
from export.data.fakes import FAKES, add_fake
from services.common.serving.modelpack import load_pack
from services.common.vision.instances import decode_instances
from services.common.vision.resample import resize

Bools = NDArray[np.bool_]
Regions = Callable[[Sample], list[Bools]]
Draw = Callable[[np.random.Generator, NDArray[np.uint8], Bools, str], tuple[NDArray[np.uint8], Bools]]

_LEAST_REGION = 0.004  # of the photo: on a smaller part a fake is a few pixels
_LEAST_CELLS = 12  # of a fake's mask at MASK_SIDE
_AWAY = 4  # cells between a real damage and a fake: an overlap would be both


def labelled_parts(sample: Sample) -> list[Bools]:
    """Where fakes may lie on a photo with part masks: each part, bool [MASK_SIDE, MASK_SIDE]."""
    if sample.parts is None:
        return []
    return [sample.parts == row for row in np.unique(sample.parts) if row]


def predicted_parts(pack: Path) -> Regions:
    """The same on photos without part masks, as a segment pack sees the parts. Raises PackError."""
    loaded = load_pack(pack)
    manifest, predict = loaded.manifest, predictor(loaded, threads=torch.get_num_threads())

    def regions(sample: Sample) -> list[Bools]:
        if sample.parts is not None:
            return labelled_parts(sample)
        outputs = predict(resize(sample.pixels, manifest.input.height, manifest.input.width))
        found = decode_instances(
            outputs,
            vocabulary=manifest.vocabulary,
            supported=manifest.supported,
            thresholds={**manifest.thresholds, "damage": 2.0},
        )
        return [scaled(part.mask, MASK_SIDE) for part in found]

    return regions


def with_fakes(samples: Iterable[Sample], regions: Regions, *, share: float, seed: int = 0) -> list[Sample]:
    """A second version of about `share` of the samples, each with one or two fakes on its parts."""
    rng = np.random.default_rng(seed)
    drawn = [sample for sample in samples if rng.random() < share]
    versions = [faked(sample, regions(sample), rng) for sample in tqdm(drawn, desc="render fakes", mininterval=5)]
    return [version for version in versions if version is not None]


def faked(sample: Sample, regions: list[Bools], rng: np.random.Generator, draw: Draw = add_fake) -> Sample | None:
    """The sample with fakes on some of `regions`, apart from its damages; None where none found a place.

    `draw`: one of the two renderers; only the first is for training.
    """
    taken = np.logical_or.reduce([np.zeros((MASK_SIDE, MASK_SIDE), np.bool_), *map(_widened, sample.masks)])
    pixels, masks, names = sample.pixels, list(sample.masks), list(sample.names)
    large = [free for region in regions if (free := region & ~taken).mean() >= _LEAST_REGION]
    for _ in range(int(rng.integers(1, 3))):
        if not large:
            break
        region = large.pop(int(rng.integers(len(large))))
        label = str(rng.choice(list(FAKES)))
        pixels, full = draw(rng, pixels, scaled(region, len(pixels)), label)
        mask = scaled(full, MASK_SIDE)
        if mask.sum() >= _LEAST_CELLS:
            masks.append(mask)
            names.append((label,))
    return Sample(pixels, masks, names, sample.parts, sample.has_damages) if len(masks) > len(sample.masks) else None


def scaled(mask: Bools, side: int) -> Bools:
    """A mask on a square grid of another size."""
    picture = np.repeat(np.asarray(mask, np.uint8)[..., None] * 255, 3, 2)
    return resize(picture, side, side)[..., 0] > 127


def _widened(mask: Bools) -> Bools:
    """The mask and `_AWAY` cells around its rows and columns."""
    out = mask.copy()
    for axis in (0, 1):
        for step in range(-_AWAY, _AWAY + 1):
            out |= np.roll(mask, step, axis)
    return out
