"""Copies of all added cases in a folder: one safetensors file each, and beside it what it must be, written last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import safetensors.numpy
from pydantic import ValidationError
from safetensors import SafetensorError
from ulid import ULID

from services.common.serving import tensors
from services.common.serving.errors import MemoryRefused, NotFound
from services.common.serving.schemas import Snapshot, Wire
from services.retrieval.rows import Row, now_ms

_COLUMNS = [field.name for field in fields(Row) if field.name != "embedding"]


class _Seal(Wire):
    snapshot: Snapshot
    backbone: str
    sha256: str


class Snapshots:
    """The snapshots of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, backbone: str, rows: Sequence[Row]) -> Snapshot:
        """Copy `rows`; the snapshot is there once this returns, or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        snapshot = Snapshot(name=f"snp_{ULID()}", cases=len(rows), created_at=now_ms())
        documents = [{name: value for name, value in asdict(row).items() if name in _COLUMNS} for row in rows]
        embeddings = np.frombuffer(b"".join(row.embedding for row in rows), np.uint8)
        data = tensors.dump({"embedding": embeddings}, {"rows": json.dumps(documents)})
        (self._folder / f"{snapshot.name}.safetensors").write_bytes(data)
        seal = _Seal(snapshot=snapshot, backbone=backbone, sha256=hashlib.sha256(data).hexdigest())
        beside = self._folder / f".{snapshot.name}.json"
        beside.write_text(seal.model_dump_json(), encoding="utf-8")
        beside.replace(self._folder / f"{snapshot.name}.json")
        return snapshot

    def complete(self) -> list[Snapshot]:
        """All that were written to the end, newest first."""
        seals = [self._seal(path.stem) for path in sorted(self._folder.glob("snp_*.json"), reverse=True)]
        return [seal.snapshot for seal in seals if seal is not None]

    def read(self, name: str, backbone: str) -> tuple[Snapshot, list[Row]]:
        """Raises NotFound, and MemoryRefused for a damaged one or one of another backbone."""
        seal = self._seal(name) if name in {snapshot.name for snapshot in self.complete()} else None
        if seal is None:
            raise NotFound(f"There is no snapshot {name[:40]}. GET /v1/stats lists those that there are.")
        if seal.backbone != backbone:
            raise MemoryRefused("The snapshot's cases were embedded by another backbone; serve the packs of that time.")
        try:
            data = (self._folder / f"{name}.safetensors").read_bytes()
            if hashlib.sha256(data).hexdigest() != seal.sha256:
                raise ValueError("its content is not as it was written")
            return seal.snapshot, _rows(data)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise MemoryRefused(f"The snapshot is damaged and was not used: {error}.") from error

    def _seal(self, name: str) -> _Seal | None:
        try:
            return _Seal.model_validate_json((self._folder / f"{name}.json").read_bytes())
        except (OSError, ValidationError):
            return None


def _rows(data: bytes) -> list[Row]:
    documents = json.loads(tensors.metadata(data)["rows"])
    embeddings = safetensors.numpy.load(data)["embedding"].tobytes()
    each = len(embeddings) // max(1, len(documents))
    return [Row(**document, embedding=embeddings[i * each : (i + 1) * each]) for i, document in enumerate(documents)]
