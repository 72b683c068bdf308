"""What a memory takes: the embeddings of one backbone, and labels of one vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from services.common.serving.errors import InvalidRequest, Unprocessable
from services.common.serving.modelpack import Manifest
from services.retrieval import packcases

REBUILD = "`python -m services.retrieval rebuild`"


@dataclass(frozen=True, slots=True)
class Space:
    classes: tuple[str, ...]
    backbone: str  # its hash: distances mean something among embeddings of the same one only
    dimension: int

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        return cls(tuple(manifest.vocabulary.classes), manifest.backbone, manifest.embedding_dim)

    def check(self, embeddings: NDArray[np.float32], backbone: str | None) -> None:
        """Raises InvalidRequest where float32 [n, d] are of another `backbone` or not L2-normalised."""
        if backbone is not None and backbone != self.backbone:
            raise InvalidRequest(
                "The memory holds the embeddings of another backbone. Give retrieval the memory pack that belongs to "
                f"the classifier's pack, then run {REBUILD}."
            )
        if embeddings.shape[1] != self.dimension:
            raise InvalidRequest(
                f"The memory holds embeddings with {self.dimension} numbers; these have {embeddings.shape[1]}. Give "
                f"retrieval the memory pack that belongs to the classifier's pack, then run {REBUILD}."
            )
        if not np.isfinite(embeddings).all():
            raise InvalidRequest("embedding: has values that are not finite.")
        if (np.abs(np.linalg.norm(embeddings, axis=1) - 1) > packcases.UNIT).any():
            raise InvalidRequest("embedding: each row must have length 1 (L2-normalised).")

    def check_label(self, label: str) -> None:
        """Raises Unprocessable where it is no label of the vocabulary."""
        if label not in self.classes:
            raise Unprocessable(f"label: must be one of {', '.join(self.classes)}; it is {label[:64]!r}.")
