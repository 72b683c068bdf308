"""ALBERT behind its graph: what goes in, what comes out, and what that means for one photo."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from services.common.serving.contracts import CONTRACTS
from services.common.serving.modelpack import Manifest
from services.common.serving.schemas import Instance, Mask, ModelRef, Scored, Segmentation
from services.common.vision.instances import DecodedInstance, decode_instances
from services.common.vision.masks import encode
from services.common.vision.resample import resize

CONTRACT = CONTRACTS["segment"]


def prepare(pixels: NDArray[np.uint8], manifest: Manifest) -> NDArray[np.uint8]:
    """uint8 [h, w, 3] -> [1, H, W, 3], stretched to the graph's size: normalised coordinates survive that unchanged."""
    return resize(pixels, manifest.input.height, manifest.input.width)[None]


def read(outputs: Mapping[str, NDArray[np.float32]], manifest: Manifest, model: ModelRef) -> Segmentation:
    """The graph's outputs for one photo (batch axis of 1) as instances."""
    photo = {name: array[0] for name, array in outputs.items()}
    found = decode_instances(
        photo, vocabulary=manifest.vocabulary, supported=manifest.supported, thresholds=manifest.thresholds
    )
    part = photo["part_logits"]
    vehicle = float((part[1:].max(0) > part[0]).mean())  # channel 0 is "no part"
    return Segmentation(model=model, instances=[_instance(thing) for thing in found], vehicle=vehicle)


def _instance(thing: DecodedInstance) -> Instance:
    size, counts = encode(thing.mask)
    return Instance(
        kind=thing.kind,
        label=thing.label,
        score=thing.score,
        labels=[Scored(label=label, score=score) for label, score in thing.labels],
        fake_score=thing.fake_score,
        on=[Scored(label=label, score=share) for label, share in thing.on],
        box=thing.box,
        mask=Mask(size=size, counts=counts),
    )
