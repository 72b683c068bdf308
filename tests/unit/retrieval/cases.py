"""Past cases for tests of the memory: clustered embeddings as a pack, and the exact search to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.common.serving.modelpack import Pack, write_pack
from services.common.serving.schemas import Case
from services.common.serving.tensors import dump
from services.retrieval.memory import Memory
from tests.packs import VOCABULARY, manifest

ROWS, DIMENSION = 600, 64
FEW = 90  # rows where only those that are added matter: an index of them is built in no time


def arrays(rows: int = ROWS, *, seed: int = 5) -> dict[str, NDArray[np.generic]]:
    """The memory pack's layout: 20 clusters, which is how embeddings of crops lie."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, DIMENSION))
    points = centres[rng.integers(0, 20, rows)] + rng.normal(scale=0.7, size=(rows, DIMENSION))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return {
        "embedding": points.astype(np.float16),
        "label": rng.integers(0, len(VOCABULARY.classes), rows).astype(np.uint8),
        "size": rng.integers(0, 3, rows).astype(np.uint8),
        "image": np.arange(rows, dtype=np.int32),
    }


def pack(
    folder: Path,
    tensors: dict[str, NDArray[np.generic]] | None = None,
    frozen: dict[str, NDArray[np.generic]] | None = None,
    **changes: Any,
) -> Pack:
    """A memory pack under `folder`, with `frozen` crops where there are any; `changes` replace manifest fields."""
    described = manifest("memory", "memory", **{"embedding_dim": DIMENSION, **changes})
    files = {"memory": dump(tensors or arrays())}
    if frozen is not None:
        files["regression"] = dump(frozen)
    return write_pack(folder / described.version, described, files)


def case(case_id: str = "rev_1", label: str = "dent", **fields: Any) -> Case:
    return Case(id=case_id, label=label, **{"claim_id": "clm_1", "reviewer": "ana", **fields})


def crop(seed: int) -> NDArray[np.float32]:
    """float32 [d]: the embedding of some crop that is not in the pack."""
    (row,) = unit(np.random.default_rng(1000 + seed).normal(size=(1, DIMENSION)))
    return np.asarray(row, np.float32)


def small(folder: Path, frozen: dict[str, NDArray[np.generic]] | None = None, **changes: Any) -> Pack:
    """A pack of few rows."""
    return pack(folder, arrays(FEW), frozen, **changes)


def opened(pack: Pack, folder: Path, *, rebuild: bool = False) -> Memory:
    return Memory.open(pack, folder=folder, database_url=rows_url(folder), rebuild=rebuild)


def rows_url(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'rows.db'}"


def unit(embeddings: NDArray[np.generic]) -> NDArray[np.float32]:
    """float32 [n, d] of length 1."""
    rows = embeddings.astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def exact(
    queries: NDArray[np.float32], rows: NDArray[np.float32], k: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Positions and cosine distances [n, k] of the nearest rows, by comparing with every one."""
    distance = 1 - queries @ rows.T
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(distance, order, axis=1)
