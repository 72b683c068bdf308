"""The nearest-neighbour index: an embedded ChromaDB collection that can be thrown away and built again from the rows.

ChromaDB is used as a library only. Its HTTP server runs code that a caller names (CVE-2026-45829), so it never starts.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import chromadb
import numpy as np
import structlog
from chromadb.api.client import Client
from chromadb.api.collection_configuration import CreateHNSWConfiguration
from chromadb.config import Settings as ChromaSettings
from chromadb.errors import ChromaError
from numpy.typing import NDArray
from ulid import ULID

log = structlog.get_logger(__name__)

Binding = Mapping[str, str]  # what an index belongs to: the backbone of its embeddings, the pack it began with

_COLLECTION = "crops"
_PAGE = 10_000  # ids read at once
_SAY = 20_000  # rows between two lines of the log: an index of 200,000 takes minutes
_SEAL = "seal.json"
_SYNC = 1000  # rows between two of ChromaDB's writes, where nothing else is said


def hnsw(rows: int) -> CreateHNSWConfiguration:
    """How an index of `rows` is built; recall is in docs/benchmarks.md.

    These are fixed when the collection is made: changing ef_search later is accepted by ChromaDB 1.5 and has no effect
    until it is reopened. ChromaDB writes the whole graph each time it has got `sync_threshold` rows more, so that
    building takes quadratic time unless it is told to write once, when all of them are there.
    """
    return CreateHNSWConfiguration(
        space="cosine", max_neighbors=32, ef_construction=200, ef_search=200, sync_threshold=max(_SYNC, rows)
    )


class IndexUnusable(Exception):
    """The index folder cannot be used; building it again from the rows helps. The message says what is wrong."""


class NeighbourIndex:
    """An open index over embeddings of one backbone: sealed when it is built, and never written to afterwards.

    What comes later is searched beside it, so a process that dies at any moment cannot leave half an index. One process
    at a time may hold a folder.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._collection = client.get_collection(_COLLECTION, embedding_function=None)

    @classmethod
    def open(cls, folder: Path, binding: Binding) -> NeighbourIndex:
        """Open what `build` left. Raises IndexUnusable: half-written, damaged, or of another backbone or pack."""
        generation, rows = _sealed(folder)
        try:
            index = cls(_client(generation))
        except (ChromaError, ValueError, KeyError) as error:
            raise IndexUnusable(str(error)) from error
        try:
            index._check(binding, rows)
        except IndexUnusable:
            index.close()
            raise
        return index

    @classmethod
    def build(
        cls, folder: Path, binding: Binding, batches: Iterable[tuple[list[str], NDArray[np.float32]]], *, rows: int
    ) -> NeighbourIndex:
        """Build the index anew from ids and float32 [n, d] batches, `rows` in all.

        Only a complete one takes the former one's place.

        Each build has a folder of its own: ChromaDB keeps what it once opened at a path, even when that was damaged.
        """
        generation = folder / str(ULID())
        generation.mkdir(parents=True)
        client = _client(generation)
        collection = client.create_collection(
            _COLLECTION, embedding_function=None, metadata=dict(binding), configuration={"hnsw": hnsw(rows)}
        )
        most = client.get_max_batch_size()
        added = 0
        for ids, embeddings in batches:
            for start in range(0, len(ids), most):
                # upsert, because `add` ignores an id that it already knows without a word
                collection.upsert(ids=ids[start : start + most], embeddings=embeddings[start : start + most])
            before, added = added, added + len(ids)
            if added // _SAY > before // _SAY:
                log.info("index is being built", rows=added, of=rows)
        _seal(folder, generation, added)
        return cls(client)

    def __len__(self) -> int:
        return self._collection.count()

    def search(self, embeddings: NDArray[np.float32], k: int) -> list[list[str]]:
        """Ids of the at most `k` nearest of each of float32 [n, d]; nearly always exactly those (see `hnsw`)."""
        return self._collection.query(query_embeddings=embeddings, n_results=k, include=[])["ids"]

    def ids(self) -> list[str]:
        """Of every row in it."""
        return [row for start in range(0, len(self), _PAGE) for row in self._page(start)]

    def close(self) -> None:
        self._client.close()

    def _page(self, start: int) -> list[str]:
        return self._collection.get(include=[], limit=_PAGE, offset=start)["ids"]

    def _check(self, binding: Binding, rows: int) -> None:
        bound = self._collection.metadata or {}
        for name, value in binding.items():
            if bound.get(name) != value:
                raise IndexUnusable(f"it was built for another {name}")
        if len(self) != rows:
            raise IndexUnusable(f"it holds {len(self)} of {rows} rows")


def _client(folder: Path) -> Client:
    # The cast: the interface that `PersistentClient` declares lacks the `close` that its class has.
    client = chromadb.PersistentClient(path=str(folder), settings=ChromaSettings(anonymized_telemetry=False))
    return cast(Client, client)


def _seal(folder: Path, generation: Path, rows: int) -> None:
    """Name the generation that counts and what its files are, last of all; then drop the others."""
    beside = folder / f"{_SEAL}.new"
    sealed = {"generation": generation.name, "rows": rows, "files": _hashes(generation)}
    beside.write_text(json.dumps(sealed), encoding="utf-8")
    beside.replace(folder / _SEAL)
    for other in folder.iterdir():
        if other.is_dir() and other != generation:
            shutil.rmtree(other, ignore_errors=True)


def _sealed(folder: Path) -> tuple[Path, int]:
    """The generation that counts, its files unchanged since they were sealed, and how many rows it got.

    ChromaDB does not check its HNSW files: a damaged one answers nonsense or ends the process with SIGSEGV.
    """
    try:
        seal = json.loads((folder / _SEAL).read_text(encoding="utf-8"))
        generation, files, rows = folder / Path(seal["generation"]).name, seal["files"], int(seal["rows"])
    except FileNotFoundError:
        raise IndexUnusable("there is none, or it was not finished") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IndexUnusable("its seal cannot be read") from error
    if not generation.is_dir() or files != _hashes(generation):
        raise IndexUnusable("its files are not as they were written")
    return generation, rows


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of the HNSW files. chroma.sqlite3 is left out: it changes whenever it is opened, and checks itself."""
    hashes = {}
    for path in sorted(folder.glob("*/*")):
        with path.open("rb") as file:
            hashes[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes
