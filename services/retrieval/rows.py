"""The rows of the memory: one labelled crop each, in a relational database. They are the truth; the index is not."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    event,
    func,
    insert,
    make_url,
    select,
)

from services.common.vision.size import SizeClass

Source = Literal["training", "human", "model"]

_metadata = MetaData()
_rows = Table(
    "memory_rows",
    _metadata,
    Column("id", String(120), primary_key=True),
    Column("embedding", LargeBinary, nullable=False),  # float16 [d], little-endian
    Column("label", String(64), nullable=False),
    Column("size", String(8)),
    Column("part", String(64)),
    Column("source", String(8), nullable=False),
    Column("claim_id", String(40)),
    Column("image_group", String(120)),  # crops of one photo share it
    Column("backbone", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),  # ms since 1970, UTC
    Index("ix_memory_rows_claim_id", "claim_id"),
    Index("ix_memory_rows_backbone", "backbone"),
)
_packs = Table(
    "memory_packs",
    _metadata,
    Column("identity", String(64), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("rows", Integer, nullable=False),
    Column("loaded_at", BigInteger, nullable=False),
)

_PER_STATEMENT = 1000  # SQLite allows 32,766 values in one statement; a row has ten
_HALF = np.dtype("<f2")


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
    claim_id: str | None = None
    image_group: str | None = None


def to_bytes(embedding: NDArray[np.floating[Any]]) -> bytes:
    """float [d] as float16 bytes: cosine distances keep three digits, which is more than a vote needs."""
    return embedding.astype(_HALF).tobytes()


def from_bytes(embeddings: Sequence[bytes]) -> NDArray[np.float32]:
    """float32 [n, d], L2-normalised again: rounding to half precision has moved the lengths a little."""
    rows = np.frombuffer(b"".join(embeddings), _HALF).reshape(len(embeddings), -1).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


class MemoryRows:
    """The tables `memory_rows` and `memory_packs`; every method is one transaction."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        self._engine = create_engine(parsed, pool_pre_ping=True)
        if self._engine.dialect.name == "sqlite":
            _prepare_sqlite(self._engine)
        _metadata.create_all(self._engine)

    def close(self) -> None:
        self._engine.dispose()

    def has_pack(self, identity: str) -> bool:
        """Whether the training rows came from the memory pack with this hash."""
        with self._engine.connect() as connection:
            return (
                connection.execute(select(_packs.c.identity).where(_packs.c.identity == identity)).first() is not None
            )

    def load_pack(self, identity: str, name: str, version: str, rows: Sequence[Row]) -> None:
        """Put `rows` in the place of all training rows; corrections by people stay."""
        now = _now_ms()
        with self._engine.begin() as connection:
            connection.execute(delete(_rows).where(_rows.c.source == "training"))
            connection.execute(delete(_packs))
            for start in range(0, len(rows), _PER_STATEMENT):
                values = [{**asdict(row), "created_at": now} for row in rows[start : start + _PER_STATEMENT]]
                connection.execute(insert(_rows), values)
            pack = {"identity": identity, "name": name, "version": version, "rows": len(rows), "loaded_at": now}
            connection.execute(insert(_packs), [pack])

    def count(self, backbone: str) -> int:
        """Rows whose embedding `backbone` made."""
        with self._engine.connect() as connection:
            query = select(func.count()).select_from(_rows).where(_rows.c.backbone == backbone)
            return int(connection.execute(query).scalar_one())

    def count_claim(self, claim_id: str) -> int:
        with self._engine.connect() as connection:
            query = select(func.count()).select_from(_rows).where(_rows.c.claim_id == claim_id)
            return int(connection.execute(query).scalar_one())

    def embeddings(self, backbone: str) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Ids and float32 [n, d] of all rows of `backbone`, in batches, ordered by id."""
        last = ""
        while True:
            with self._engine.connect() as connection:
                query = select(_rows.c.id, _rows.c.embedding).where(_rows.c.backbone == backbone, _rows.c.id > last)
                found = connection.execute(query.order_by(_rows.c.id).limit(_PER_STATEMENT)).all()
            if not found:
                return
            last = found[-1].id
            yield [row.id for row in found], from_bytes([row.embedding for row in found])

    def get(self, ids: Collection[str]) -> dict[str, Row]:
        """The rows with these ids, as far as they are still there."""
        fields = [column for column in _rows.c if column.name != "created_at"]
        with self._engine.connect() as connection:
            found = connection.execute(select(*fields).where(_rows.c.id.in_(list(ids)))).mappings().all()
        return {row["id"]: Row(**row) for row in found}


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
