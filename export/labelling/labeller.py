"""From a picture and boxes to labels with a confidence and a source: decided as the claim pipeline does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from export.albert.report import predictor
from export.convert.to_onnx import session
from export.cropresmoe.calibrate import neighbours
from export.labelling.regions import Box, Origin, Region
from services.common.serving.modelpack import Pack, PackError
from services.common.vision.crops import cut_crops
from services.common.vision.instances import decode_instances
from services.common.vision.resample import resize
from services.common.vision.vote import NEIGHBOURS, calibrated, decide, rule


class Labeller:
    """Names regions with a classifier pack and its memory, and finds them with a segmenter pack where there is one."""

    def __init__(self, classifier: Pack, memory: Pack, segmenter: Pack | None = None) -> None:
        if classifier.manifest.backbone != memory.manifest.backbone:
            raise PackError(f"{memory.folder}: belongs to another classifier than {classifier.folder}.")
        self._manifest = classifier.manifest
        self._classes = list(classifier.manifest.vocabulary.classes)
        self._supported = np.isin(self._classes, classifier.manifest.supported["classes"])
        self._session = session(classifier.read("fp32"))
        rows = load(memory.read("memory"))
        self._rows, self._row_labels = rows["embedding"].astype(np.float32), rows["label"].astype(np.int64)
        self._segmenter = segmenter.manifest if segmenter else None
        self._segment = predictor(segmenter) if segmenter else None

    def regions(self, pixels: NDArray[np.uint8]) -> list[Box]:
        """Boxes of the damages that the segmenter lists on uint8 [h, w, 3]; the whole picture without a segmenter."""
        if self._segment is None or self._segmenter is None:
            return [(0.0, 0.0, 1.0, 1.0)]
        manifest = self._segmenter
        outputs = self._segment(resize(pixels, manifest.input.height, manifest.input.width))
        found = decode_instances(
            outputs, vocabulary=manifest.vocabulary, supported=manifest.supported, thresholds=manifest.thresholds
        )
        return [instance.box for instance in found if instance.kind == "damage"]

    def label(self, pixels: NDArray[np.uint8], boxes: Sequence[Box]) -> list[Region]:
        """One label per normalised box, in their order."""
        if not boxes:
            return []
        given = self._manifest.input
        crops = cut_crops(pixels, boxes, size=given.height, resize=given.resize, context=given.context)
        found: list[Region] = []
        for start in range(0, len(crops), self._manifest.max_batch):
            part = slice(start, start + self._manifest.max_batch)
            logits, embedding = self._session.run(["logits", "embedding"], {"crops": crops[part]})
            found += self._decided(logits, embedding, boxes[part])
        return found

    def _decided(
        self, logits: NDArray[np.float32], embedding: NDArray[np.float32], boxes: Sequence[Box]
    ) -> list[Region]:
        probabilities = calibrated(logits, self._manifest.temperature, self._supported)
        distances, index = neighbours(embedding, self._rows, k=NEIGHBOURS)
        found = []
        for box, p, near, rows in zip(boxes, probabilities, distances, index, strict=True):
            decision = decide(p, near, self._row_labels[rows], **rule(self._manifest.thresholds))
            source: Origin = "model" if decision.outcome == "accept" else decision.outcome
            found.append(Region(box, self._classes[decision.label], round(decision.confidence, 4), source))
        return found
