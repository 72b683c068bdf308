"""Nearest cases by whichever search is faster: the exact one, or ChromaDB's index with what came after it was built."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import structlog
from numpy.typing import NDArray

from services.common.serving.schemas import Neighbour
from services.retrieval.index import Binding, IndexUnusable, NeighbourIndex
from services.retrieval.rows import Row
from services.retrieval.vectors import Found, Vectors, Where

log = structlog.get_logger(__name__)

# Here comparing with every row and asking the index cost the same; at 9,000 vectors of 256 numbers the index costs 3.6
# times as much, at 200,000 a sixth (docs/benchmarks.md).
EXACT_UP_TO = 50_000
_SPARE = 24  # hits beyond k: retracted cases, other tenants' and the asking claim's own are among them
_BATCH = 1000


class NearestCases:
    """All living cases of one backbone. Each of them is in `Vectors`, most of them in the index as well."""

    def __init__(self, vectors: Vectors, index: NeighbourIndex, exact_up_to: int = EXACT_UP_TO) -> None:
        self._vectors = vectors
        self._index = index
        self._exact_up_to = exact_up_to

    @classmethod
    def open(
        cls, batches: Iterable[list[Row]], dimension: int, folder: Path, binding: Binding, *, rebuild: bool = False
    ) -> NearestCases:
        """Rows into memory; the index as it lies in `folder`, or built from them where it cannot be used."""
        vectors = Vectors(dimension)
        for rows in batches:
            vectors.extend(rows)
        index = _open_index(vectors, folder, binding, rebuild=rebuild)
        vectors.mark_indexed(index.ids())
        return cls(vectors, index)

    def __len__(self) -> int:
        return len(self._vectors)

    def __contains__(self, row_id: str) -> bool:
        return row_id in self._vectors

    @property
    def indexed(self) -> int:
        return self._vectors.indexed

    @property
    def fastest(self) -> Literal["exact", "chromadb"]:
        """Which search answers a question without a filter."""
        return "exact" if len(self._vectors) <= self._exact_up_to else "chromadb"

    def count(self, where: Where) -> int:
        return int(self._vectors.visible(where).sum())

    def search(self, embeddings: NDArray[np.float32], k: int, where: Where) -> list[list[Neighbour]]:
        """The `k` nearest of each of float32 [n, d] that `where` lets through, nearest first.

        Filters by size or label are answered exactly: ChromaDB's are slower than comparing with every row.
        """
        found = None
        if self.fastest == "chromadb" and where.size is None and where.label is None:
            found = self._approximate(embeddings, k, where)
        if found is None:
            found = self._vectors.search(embeddings, k, self._vectors.visible(where))
        return [[self._vectors.neighbour(*hit) for hit in row] for row in found]

    def add(self, row: Row) -> None:
        self._vectors.extend([row])

    def remove(self, row_id: str) -> None:
        self._vectors.remove(row_id)

    def relabel(self, row_id: str, label: str) -> None:
        self._vectors.relabel(row_id, label)

    def reload(self, batches: Iterable[list[Row]]) -> None:
        """Put other rows of the same backbone in the place of all; the index goes on knowing those it knew."""
        vectors = Vectors(self._vectors.dimension)
        for rows in batches:
            vectors.extend(rows)
        vectors.mark_indexed(self._index.ids())
        self._vectors = vectors

    def close(self) -> None:
        self._index.close()

    def _approximate(self, embeddings: NDArray[np.float32], k: int, where: Where) -> list[Found] | None:
        """From the index and the rows that it does not hold; None where it names too few that may be seen."""
        vectors = self._vectors
        visible = vectors.visible(where)
        late = vectors.search(embeddings, k, vectors.visible(where, indexed=False))
        found: list[Found] = []
        for query, ids, others in zip(embeddings, self._index.search(embeddings, k + _SPARE), late, strict=True):
            positions = vectors.positions(ids)
            positions = positions[positions < len(visible)]
            positions = positions[visible[positions]]
            if len(positions) < k:
                return None
            both = np.union1d(positions, np.array([position for position, _ in others], np.int64))
            found.append(vectors.ranked(query, both, k))
        return found


def _open_index(vectors: Vectors, folder: Path, binding: Binding, *, rebuild: bool) -> NeighbourIndex:
    try:
        if rebuild:
            raise IndexUnusable("it was asked for")
        index = NeighbourIndex.open(folder, binding)
        if len(vectors) > 2 * len(index) + EXACT_UP_TO:
            index.close()
            raise IndexUnusable("most rows came after it was built")
        return index
    except IndexUnusable as reason:
        started = time.perf_counter()
        index = NeighbourIndex.build(folder, binding, vectors.batches(_BATCH), rows=len(vectors))
        seconds = round(time.perf_counter() - started, 2)
        log.info("index built from the rows", why=str(reason), rows=len(index), seconds=seconds)
        return index
