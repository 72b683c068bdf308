"""The typed clients of the model services: the pipeline's only way to a model, over a network or in one process."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.common.serving.schemas import Classification, ModelInfo, Neighbour, RetrievalInfo, Segmentation


class Segmenter(Protocol):
    async def info(self) -> ModelInfo: ...

    async def segment(self, pixels: NDArray[np.uint8]) -> Segmentation:
        """`pixels`: uint8 [h, w, 3], upright RGB. Raises Problem (NotReady, DeadlineExceeded, ...)."""
        ...


class Classifier(Protocol):
    async def info(self) -> ModelInfo: ...

    async def classify(self, crops: NDArray[np.uint8]) -> Classification:
        """`crops`: uint8 [n, size, size, 3] as `vision.crops.cut_crops` makes them."""
        ...


class Retrieval(Protocol):
    async def info(self) -> RetrievalInfo: ...

    async def search(
        self, embeddings: NDArray[np.float32], *, k: int, exclude_claim: str | None = None
    ) -> list[list[Neighbour]]:
        """`embeddings`: float32 [n, d], L2-normalised; answers n lists, nearest first."""
        ...
