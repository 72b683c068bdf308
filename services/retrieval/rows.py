"""The rows of the memory: one labelled crop each, in a relational database. They are the truth; the index is not.

Every method is one transaction, and each change writes its entry of the log in the same one.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, create_engine, delete, event, func, insert, make_url, select, update
from ulid import ULID

from services.common.serving import migrations
from services.common.serving.schemas import Source
from services.common.vision.size import SizeClass
from services.retrieval import tables

_SCRIPTS = Path(__file__).parent / "migrations"
_PER_STATEMENT = 1000  # SQLite allows 32,766 values in one statement; a row has fourteen
_HALF = np.dtype("<f2")
_rows, _events = tables.rows, tables.events
_living = _rows.c.retracted_at.is_(None) & _rows.c.same_as.is_(None)


@dataclass(frozen=True, slots=True)
class Row:
    """One past case. `image_group` names the photo that it was cut from, `backbone` what made the embedding."""

    id: str
    embedding: bytes  # `to_bytes`
    label: str
    source: Source
    backbone: str
    size: SizeClass | None = None
    part: str | None = None
    tenant: str | None = None  # None: every tenant's
    claim_hash: str | None = None
    image_group: str | None = None
    reviewer: str | None = None
    created_at: int = 0
    retracted_at: int | None = None
    same_as: str | None = None

    @property
    def living(self) -> bool:
        """Whether searches find it."""
        return self.retracted_at is None and self.same_as is None


_FIELDS = [_rows.c[field.name] for field in fields(Row)]


@dataclass(frozen=True, slots=True)
class Entry:
    """What the log says of a change: who did what to which case."""

    action: str
    tenant: str | None = None
    case_id: str | None = None
    reviewer: str | None = None
    detail: Mapping[str, object] | None = None
    at: int = 0  # ms since 1970, UTC


def to_bytes(embedding: NDArray[np.floating[Any]]) -> bytes:
    """float [d] as float16 bytes: cosine distances keep three digits, which is more than a vote needs."""
    return embedding.astype(_HALF).tobytes()


def from_bytes(embeddings: Sequence[bytes]) -> NDArray[np.float32]:
    """float32 [n, d], L2-normalised again: rounding to half precision has moved the lengths a little."""
    rows = np.frombuffer(b"".join(embeddings), _HALF).reshape(len(embeddings), -1).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


class MemoryRows:
    """The tables of `tables.py` behind a few verbs."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        self._engine = create_engine(parsed, pool_pre_ping=True)
        if self._engine.dialect.name == "sqlite":
            _prepare_sqlite(self._engine)
        with self._engine.begin() as connection:
            migrations.upgrade(connection, _SCRIPTS)

    def close(self) -> None:
        self._engine.dispose()

    def has_pack(self, identity: str) -> bool:
        """Whether the training rows came from the memory pack with this hash."""
        query = select(tables.packs.c.identity).where(tables.packs.c.identity == identity)
        with self._engine.connect() as connection:
            return connection.execute(query).first() is not None

    def load_pack(self, identity: str, name: str, version: str, rows: Sequence[Row]) -> None:
        """Put `rows` in the place of all training rows; what people have added stays."""
        now = now_ms()
        with self._engine.begin() as connection:
            connection.execute(delete(_rows).where(_rows.c.source == "training"))
            connection.execute(delete(tables.packs))
            _insert(connection, [replace(row, created_at=now) for row in rows])
            pack = {"identity": identity, "name": name, "version": version, "rows": len(rows), "loaded_at": now}
            connection.execute(insert(tables.packs), [pack])
            _log(connection, Entry("pack", detail={"name": name, "version": version, "rows": len(rows)}))

    def living(self, backbone: str) -> Iterator[list[Row]]:
        """All rows that searches of `backbone` find, in batches, ordered by id."""
        last = ""
        while True:
            query = select(*_FIELDS).where(_rows.c.backbone == backbone, _living, _rows.c.id > last)
            with self._engine.connect() as connection:
                found = connection.execute(query.order_by(_rows.c.id).limit(_PER_STATEMENT)).mappings().all()
            if not found:
                return
            last = found[-1]["id"]
            yield [Row(**row) for row in found]

    def added(self, backbone: str) -> list[Row]:
        """All rows of `backbone` that came after the pack's, retracted ones included, ordered by id."""
        query = select(*_FIELDS).where(_rows.c.backbone == backbone, _rows.c.source != "training")
        with self._engine.connect() as connection:
            return [Row(**row) for row in connection.execute(query.order_by(_rows.c.id)).mappings()]

    def get(self, ids: Collection[str]) -> dict[str, Row]:
        """The rows with these ids, as far as they are there."""
        with self._engine.connect() as connection:
            found = connection.execute(select(*_FIELDS).where(_rows.c.id.in_(list(ids)))).mappings().all()
        return {row["id"]: Row(**row) for row in found}

    def count_claim(self, claim_hash: str) -> int:
        """Rows of a claim that were not taken back."""
        query = select(func.count()).where(_rows.c.claim_hash == claim_hash, _rows.c.retracted_at.is_(None))
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def count_labels(self, tenant: str, backbone: str) -> tuple[dict[str, int], int]:
        """The tenant's own rows by label, and how many were taken back."""
        own = (_rows.c.tenant == tenant) & (_rows.c.backbone == backbone)
        labels = select(_rows.c.label, func.count()).where(own, _living).group_by(_rows.c.label)
        retracted = select(func.count()).where(own, _rows.c.retracted_at.is_not(None))
        with self._engine.connect() as connection:
            counts = {label: int(count) for label, count in connection.execute(labels)}
            return counts, int(connection.execute(retracted).scalar_one())

    def add(self, row: Row, entry: Entry) -> None:
        with self._engine.begin() as connection:
            _insert(connection, [row])
            _log(connection, entry)

    def relabel(self, row_id: str, label: str, entry: Entry) -> str | None:
        """Another label, on its own account from now on; answers what `retract` answers."""
        with self._engine.begin() as connection:
            connection.execute(update(_rows).where(_rows.c.id == row_id).values(label=label, same_as=None))
            _log(connection, entry)
            return _heir(connection, row_id)

    def retract(self, row_id: str, entry: Entry) -> str | None:
        """Take a row back; the id of the oldest row that said the same, if there is one: it is found from now on."""
        with self._engine.begin() as connection:
            connection.execute(update(_rows).where(_rows.c.id == row_id).values(retracted_at=now_ms()))
            _log(connection, entry)
            return _heir(connection, row_id)

    def replace_added(self, backbone: str, rows: Sequence[Row], entry: Entry) -> None:
        """Make the added rows of `backbone` exactly `rows`; the log stays."""
        added = (_rows.c.backbone == backbone) & (_rows.c.source != "training")
        with self._engine.begin() as connection:
            connection.execute(delete(_rows).where(added))
            _insert(connection, rows)
            _log(connection, entry)

    def log(self, entry: Entry) -> None:
        """An entry of its own: of what was refused, and so changed nothing."""
        with self._engine.begin() as connection:
            _log(connection, entry)

    def entries(self, tenant: str, *, limit: int) -> list[Entry]:
        """The tenant's part of the log, newest first."""
        columns = [_events.c[field.name] for field in fields(Entry)]
        query = select(*columns).where(_events.c.tenant == tenant).order_by(_events.c.id.desc()).limit(limit)
        with self._engine.connect() as connection:
            return [Entry(**row) for row in connection.execute(query).mappings()]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def _heir(connection: Connection, row_id: str) -> str | None:
    """Let the oldest living row that said the same as `row_id` stand for the others."""
    twins = select(_rows.c.id).where(_rows.c.same_as == row_id, _rows.c.retracted_at.is_(None))
    heir: str | None = connection.execute(twins.order_by(_rows.c.created_at, _rows.c.id).limit(1)).scalar()
    if heir is not None:
        connection.execute(update(_rows).where(_rows.c.same_as == row_id).values(same_as=heir))
        connection.execute(update(_rows).where(_rows.c.id == heir).values(same_as=None))
    return heir


def _insert(connection: Connection, rows: Sequence[Row]) -> None:
    for start in range(0, len(rows), _PER_STATEMENT):
        connection.execute(insert(_rows), [asdict(row) for row in rows[start : start + _PER_STATEMENT]])


def _log(connection: Connection, entry: Entry) -> None:
    values = {**asdict(entry), "id": str(ULID()), "at": entry.at or now_ms(), "detail": dict(entry.detail or {})}
    connection.execute(insert(_events), [values])


def _prepare_sqlite(engine: Any) -> None:
    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        # synchronous=NORMAL in WAL mode: a commit survives the process's death; only a power cut can undo the last ones
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()
