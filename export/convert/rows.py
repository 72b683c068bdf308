"""Rows of a labelled split as a pack's graph gets them: what INT8 is calibrated on and parity is checked on."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.albert.dataset import truths
from export.cropresmoe.dataset import Cut, load_crops
from export.labels import load_labels
from services.common.serving.modelpack import Manifest
from services.common.vision.resample import resize

_EVERY = 5  # photos of one car follow each other in the labelled sets


def rows(manifest: Manifest, data: Path, split: str, n: int) -> NDArray[np.uint8]:
    """At most `n` rows, uint8 [n, h, w, 3], spread over the split: photos for a segmenter, crops for a classifier."""
    shape = manifest.input
    if manifest.task == "classify":
        cut = Cut(shape.height, shape.context, shape.resize)
        crops, _ = load_crops(data, split, load_labels(), cut, wide=False)
        return crops.served[:: max(1, len(crops.served) // n)][:n]
    photos = islice(truths(data, split, load_labels()), 0, n * _EVERY, _EVERY)
    return np.stack([resize(truth.pixels, shape.height, shape.width) for truth, _ in photos])
