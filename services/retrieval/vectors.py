"""Every living embedding in memory, and the exact search that compares with each: the reference, and often the fastest.

A distance is computed from the two vectors alone, in double precision: it does not depend on what else is stored, so
that taking a case back restores earlier answers to the last digit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from services.common.serving.schemas import Neighbour
from services.retrieval.rows import Row, from_bytes

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Found = list[tuple[int, float]]  # positions and cosine distances in [0, 2], nearest first

_TRAITS = ("tenant", "label", "size", "part", "source", "claim_hash")
_AT_ONCE = 32  # queries in one product: bounds the table of distances
_SPARE = 16  # candidates beyond k: single precision may misplace near ties
_DIGITS = 7  # of a distance: half-precision rows are not known better


@dataclass(frozen=True, slots=True)
class Where:
    """What a search may find: shared rows and those of `tenant`, without a claim's own, of one size or label."""

    tenant: str | None = None
    exclude_claim: str | None = None  # a claim's hash
    size: str | None = None
    label: str | None = None


class Vectors:
    """Rows by position; a removed row keeps its position and is found no more. Safe to use from several threads."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._lock = Lock()
        self._matrix = np.empty((1024, dimension), np.float32)
        self._codes = np.empty((len(_TRAITS), 1024), np.int32)
        self._living = np.zeros(1024, bool)
        self._indexed = np.zeros(1024, bool)
        self._names: list[list[str | None]] = [[None] for _ in _TRAITS]  # code -> name; code 0 is None
        self._known: list[dict[str | None, int]] = [{None: 0} for _ in _TRAITS]
        self._ids: list[str] = []
        self._position: dict[str, int] = {}

    def __len__(self) -> int:
        return int(self._living.sum())

    @property
    def indexed(self) -> int:
        """How many living rows a neighbour index holds as well (see `mark_indexed`)."""
        return int((self._living & self._indexed).sum())

    def __contains__(self, row_id: str) -> bool:
        position = self._position.get(row_id)
        return position is not None and bool(self._living[position])

    def extend(self, rows: Sequence[Row]) -> None:
        """Add rows; one that was removed earlier comes back as it is now."""
        embeddings = from_bytes([row.embedding for row in rows])
        with self._lock:
            start, end = len(self._ids), len(self._ids) + len(rows)
            if end > len(self._matrix):
                self._grow(max(end, 2 * len(self._matrix)))
            self._matrix[start:end] = embeddings
            self._codes[:, start:end] = [[self._code(i, getattr(row, name)) for row in rows] for i, name in _NUMBERED]
            for row in rows:
                self._position[row.id] = len(self._ids)
                self._ids.append(row.id)
            self._living[start:end] = True  # last: a search that runs now has not seen half a row

    def remove(self, row_id: str) -> None:
        self._living[self._position[row_id]] = False

    def relabel(self, row_id: str, label: str) -> None:
        with self._lock:
            trait = _TRAITS.index("label")
            self._codes[trait, self._position[row_id]] = self._code(trait, label)

    def mark_indexed(self, ids: Sequence[str]) -> None:
        """Rows that a neighbour index holds too."""
        self._indexed[[self._position[row] for row in ids if row in self._position]] = True

    def visible(self, where: Where, *, indexed: bool | None = None) -> Bools:
        """bool [positions]: what a search may find; `indexed` narrows to rows in or outside of the index."""
        with self._lock:
            n = len(self._ids)
            mask = self._living[:n].copy()
            if indexed is not None:
                mask &= self._indexed[:n] == indexed
            own = self._lookup("tenant", where.tenant)
            tenants = self._codes[_TRAITS.index("tenant"), :n]
            mask &= (tenants == 0) | (tenants == own)
            for name, value in (("size", where.size), ("label", where.label)):
                if value is not None:
                    mask &= self._codes[_TRAITS.index(name), :n] == self._lookup(name, value)
            if where.exclude_claim is not None:
                mask &= self._codes[_TRAITS.index("claim_hash"), :n] != self._lookup("claim_hash", where.exclude_claim)
        return mask

    def search(self, queries: NDArray[np.float32], k: int, visible: Bools) -> list[Found]:
        """The `k` nearest visible rows of each of float32 [n, d], by comparing with every one."""
        positions = np.flatnonzero(visible)
        matrix = self._matrix
        # Gathering rows costs about as much as comparing with them: it pays where most are left out.
        narrow = len(positions) < len(visible) // 2
        part = matrix[positions] if narrow else matrix[: len(visible)]
        found: list[Found] = []
        for start in range(0, len(queries), _AT_ONCE):
            some = queries[start : start + _AT_ONCE]
            closeness = some @ part.T
            if not narrow:
                closeness[:, ~visible] = -np.inf
            most = min(k + _SPARE, len(positions))
            for query, row in zip(some, closeness, strict=True):
                near = np.argpartition(-row, most - 1)[:most] if most else np.zeros(0, np.int64)
                found.append(self.ranked(query, positions[near] if narrow else near, k))
        return found

    def ranked(self, query: NDArray[np.float32], positions: Ints, k: int) -> Found:
        """The `k` nearest of the rows at `positions`, with exact distances; ties in the order of their ids."""
        products = self._matrix[positions].astype(np.float64) * query.astype(np.float64)
        distances = np.round(np.clip(1 - products.sum(axis=1), 0, 2), _DIGITS).tolist()
        ranked = sorted(zip(distances, (self._ids[p] for p in positions), positions.tolist(), strict=True))
        return [(position, distance) for distance, _, position in ranked[:k]]

    def positions(self, ids: Sequence[str]) -> Ints:
        """Positions of those of the rows that are known here."""
        return np.array([self._position[row] for row in ids if row in self._position], np.int64)

    def neighbour(self, position: int, distance: float) -> Neighbour:
        traits = {name: self._names[i][self._codes[i, position]] for i, name in _NUMBERED}
        kept = {name: traits[name] for name in ("label", "size", "part", "source")}
        return Neighbour.model_validate({"id": self._ids[position], "distance": distance, **kept})

    def batches(self, size: int) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Ids and float32 [n, d] of all living rows."""
        living = np.flatnonzero(self._living[: len(self._ids)])
        for start in range(0, len(living), size):
            some = living[start : start + size]
            yield [self._ids[position] for position in some], self._matrix[some]

    def _lookup(self, name: str, value: str | None) -> int:
        return self._known[_TRAITS.index(name)].get(value, -1)

    def _code(self, trait: int, value: str | None) -> int:
        known = self._known[trait]
        if value not in known:
            known[value] = len(known)
            self._names[trait].append(value)
        return known[value]

    def _grow(self, size: int) -> None:
        n = len(self._ids)
        for name in ("_matrix", "_living", "_indexed"):
            old: NDArray[np.generic] = getattr(self, name)
            new = np.zeros((size, *old.shape[1:]), old.dtype)
            new[:n] = old[:n]
            setattr(self, name, new)
        codes = np.zeros((len(_TRAITS), size), np.int32)
        codes[:, :n] = self._codes[:, :n]
        self._codes = codes


_NUMBERED = tuple(enumerate(_TRAITS))
