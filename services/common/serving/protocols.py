"""What the model services can be asked, whoever answers: the pipeline's only way to a model."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from services.common.serving.schemas import (
    Case,
    Classification,
    Kept,
    MemoryStats,
    ModelInfo,
    Neighbour,
    PackState,
    RetrievalInfo,
    Segmentation,
    Snapshot,
)
from services.common.vision.size import SizeClass


class Segmenter(Protocol):
    pack: str | None
    """The version of its pack that is asked; None: whichever the service has as its own."""

    def at(self, pack: str | None) -> Self:
        """The same service, always asked for this version."""
        ...

    async def packs(self) -> list[PackState]:
        """The versions that it could serve."""
        ...

    async def info(self, *, fresh: bool = False) -> ModelInfo:
        """What runs there; `fresh` asks the service even where the answer is known. Raises Problem."""
        ...

    async def segment(self, pixels: NDArray[np.uint8]) -> Segmentation:
        """`pixels`: uint8 [h, w, 3], upright RGB. Raises Problem (NotReady, DeadlineExceeded, ...)."""
        ...


class Classifier(Protocol):
    pack: str | None

    def at(self, pack: str | None) -> Self: ...

    async def packs(self) -> list[PackState]: ...

    async def info(self, *, fresh: bool = False) -> ModelInfo: ...

    async def classify(self, crops: NDArray[np.uint8]) -> Classification:
        """`crops`: uint8 [n, size, size, 3], n >= 1, as `vision.crops.cut_crops` makes them."""
        ...


class Retrieval(Protocol):
    async def info(self) -> RetrievalInfo: ...

    async def search(
        self,
        embeddings: NDArray[np.float32],
        *,
        k: int,
        tenant: str | None = None,
        backbone: str | None = None,
        exclude_claim: str | None = None,
        size: SizeClass | None = None,
        label: str | None = None,
    ) -> list[list[Neighbour]]:
        """`embeddings`: float32 [n, d], L2-normalised, n >= 1; answers n lists, nearest first.

        Training cases and the tenant's own, without a tenant training cases only. Another `backbone` than the memory's
        is refused. `label` must come from a person or the claim's text: filtering by a model's own prediction would
        only confirm it.
        """
        ...

    async def add(self, case: Case, embedding: NDArray[np.float32], *, tenant: str, backbone: str) -> Kept:
        """Keep a labelled crop, `embedding` float32 [d]; it counts in the next search.

        Raises MemoryRefused where it would make the memory worse (the detail says how), Unprocessable, InvalidRequest.
        """
        ...

    async def correct(self, case_id: str, label: str, *, tenant: str, reviewer: str | None = None) -> None:
        """Give the tenant's case another label. Raises NotFound, MemoryRefused, Unprocessable."""
        ...

    async def retract(self, case_id: str, *, tenant: str, reviewer: str | None = None) -> None:
        """Take the tenant's case back: answers are as if it had never been added. Again is no error; NotFound is."""
        ...

    async def snapshot(self) -> Snapshot:
        """Copy all added cases, of every tenant."""
        ...

    async def restore(self, name: str) -> Snapshot:
        """Make the added cases exactly those of a snapshot. Raises NotFound, MemoryRefused; then nothing changed."""
        ...

    async def stats(self, *, tenant: str) -> MemoryStats: ...
