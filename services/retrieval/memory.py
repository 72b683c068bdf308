"""The memory of past cases: rows, the index over them, and the pack that both begin with."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import cast, get_args

import numpy as np
import structlog
from numpy.typing import NDArray

from services.common.serving import tensors
from services.common.serving.errors import InvalidRequest
from services.common.serving.modelpack import Manifest, Pack, PackError
from services.common.serving.schemas import Neighbour
from services.common.serving.tensors import Spec
from services.common.vision.size import SizeClass
from services.retrieval.index import IndexUnusable, NeighbourIndex
from services.retrieval.rows import MemoryRows, Row, to_bytes

log = structlog.get_logger(__name__)

REBUILD = "`python -m services.retrieval rebuild`"
_SIZES = cast(tuple[SizeClass, ...], get_args(SizeClass))
_UNIT = 1e-2  # how far an embedding's length may be from 1: half precision somewhere on the way costs 1e-3


class Memory:
    """Answers the nearest past cases to an embedding. Methods block; call them from a thread."""

    def __init__(self, rows: MemoryRows, index: NeighbourIndex, *, backbone: str, dimension: int) -> None:
        self._rows = rows
        self._index = index
        self.backbone = backbone
        self.dimension = dimension

    @classmethod
    def open(cls, pack: Pack, *, folder: Path, database_url: str, rebuild: bool = False) -> Memory:
        """Load the pack's rows unless they are loaded already, and open the index or build it from the rows.

        The index lies in `folder`/index. Raises PackError.
        """
        manifest = pack.manifest
        if manifest.task != "memory":
            raise PackError(f"{pack.folder}: is a pack for `{manifest.task}`; retrieval needs one for `memory`.")
        if not manifest.backbone:
            raise PackError(f"{pack.folder}: names no backbone, so nobody can know whose embeddings these are.")
        rows = MemoryRows(database_url)
        identity = _identity(manifest)
        if not rows.has_pack(identity):
            started = time.perf_counter()
            cases = _rows_of(pack)
            rows.load_pack(identity, manifest.name, manifest.version, cases)
            log.info("memory pack loaded", rows=len(cases), seconds=round(time.perf_counter() - started, 2))
        index = _open_index(rows, folder / "index", manifest.backbone, identity, rebuild=rebuild)
        return cls(rows, index, backbone=manifest.backbone, dimension=manifest.embedding_dim)

    def __len__(self) -> int:
        return len(self._index)

    def search(
        self,
        embeddings: NDArray[np.float32],
        *,
        k: int,
        exclude_claim: str | None = None,
        backbone: str | None = None,
    ) -> list[list[Neighbour]]:
        """The `k` nearest past cases of each of float32 [n, d], nearest first.

        Crops of the claim `exclude_claim` are left out: a claim is no precedent for itself. Raises InvalidRequest for
        the embeddings of another backbone and for what is no L2-normalised embedding.
        """
        self._check(embeddings, backbone)
        own = self._rows.count_claim(exclude_claim) if exclude_claim else 0
        hits = self._index.search(embeddings, k + own)
        rows = self._rows.get({row for found in hits for row, _ in found})
        return [
            [
                _neighbour(rows[row], distance)
                for row, distance in found
                if row in rows and (exclude_claim is None or rows[row].claim_id != exclude_claim)
            ][:k]
            for found in hits
        ]

    def close(self) -> None:
        self._index.close()
        self._rows.close()

    def _check(self, embeddings: NDArray[np.float32], backbone: str | None) -> None:
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
        if (np.abs(np.linalg.norm(embeddings, axis=1) - 1) > _UNIT).any():
            raise InvalidRequest("embedding: each row must have length 1 (L2-normalised).")


def _open_index(rows: MemoryRows, folder: Path, backbone: str, pack: str, *, rebuild: bool) -> NeighbourIndex:
    binding = {"backbone": backbone, "pack": pack}
    try:
        if rebuild:
            raise IndexUnusable("it was asked for")
        return NeighbourIndex.open(folder, binding, rows=rows.count(backbone))
    except IndexUnusable as reason:
        started = time.perf_counter()
        index = NeighbourIndex.build(folder, binding, rows.embeddings(backbone))
        seconds = round(time.perf_counter() - started, 2)
        log.info("index built from the rows", why=str(reason), rows=len(index), seconds=seconds)
        return index


def _rows_of(pack: Pack) -> list[Row]:
    """The cases of a memory pack. Raises PackError when the arrays are not what the manifest promises."""
    manifest = pack.manifest
    specs = {
        "embedding": Spec("float16", (None, manifest.embedding_dim)),
        "label": Spec("uint8", (None,)),
        "size": Spec("uint8", (None,)),
        "image": Spec("int32", (None,)),
    }
    try:
        arrays = tensors.load(pack.read("memory"), specs)
    except InvalidRequest as error:
        raise PackError(f"{pack.folder} (files.memory): {error.detail}") from error
    embedding, label, size, image = (arrays[name] for name in specs)
    classes = manifest.vocabulary.classes
    if len({len(array) for array in arrays.values()}) != 1:
        raise PackError(f"{pack.folder} (files.memory): the arrays differ in length.")
    if int(label.max()) >= len(classes) or int(size.max()) >= len(_SIZES):
        raise PackError(f"{pack.folder} (files.memory): a label or a size lies outside of the vocabulary.")
    lengths = np.linalg.norm(embedding.astype(np.float32), axis=1)
    if not (np.abs(lengths - 1) <= _UNIT).all():  # not `any(... > ...)`: NaN must not pass
        raise PackError(f"{pack.folder} (files.memory): an embedding does not have length 1.")
    prefix = _prefix(manifest)
    return [
        Row(
            id=f"{prefix}/{position}",
            embedding=to_bytes(embedding[position]),
            label=classes[int(label[position])],
            source="training",
            backbone=manifest.backbone,
            size=_SIZES[int(size[position])],
            image_group=f"{prefix}/{int(image[position])}",
        )
        for position in range(len(embedding))
    ]


def _identity(manifest: Manifest) -> str:
    """SHA-256 over everything that makes the rows: the file, and what the manifest says its numbers mean."""
    meaning = [manifest.name, manifest.version, manifest.files["memory"].sha256, manifest.backbone, manifest.names_hash]
    return hashlib.sha256(json.dumps(meaning).encode()).hexdigest()


def _prefix(manifest: Manifest) -> str:
    return f"{manifest.name}-{manifest.version}"


def _neighbour(row: Row, distance: float) -> Neighbour:
    return Neighbour(
        id=row.id,
        label=row.label,
        distance=distance,
        source=row.source,
        size=row.size,
        part=row.part,
        claim_id=row.claim_id,
    )
