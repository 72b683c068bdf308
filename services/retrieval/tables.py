"""The memory's tables. They are the truth; the index is made from them. Times are ms since 1970, UTC."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table

metadata = MetaData()

rows = Table(
    "memory_rows",
    metadata,
    Column("id", String(120), primary_key=True),
    Column("embedding", LargeBinary, nullable=False),  # float16 [d], little-endian
    Column("label", String(64), nullable=False),
    Column("size", String(8)),
    Column("part", String(64)),
    Column("source", String(8), nullable=False),
    Column("tenant", String(64)),  # null: shared, as the pack's training crops are
    Column("claim_hash", String(64)),
    Column("image_group", String(120)),  # crops of one photo share it
    Column("backbone", String(64), nullable=False),
    Column("reviewer", String(120)),
    Column("created_at", BigInteger, nullable=False),
    Column("retracted_at", BigInteger),  # taken back: kept for the record, found no more
    Column("same_as", String(120)),  # says the same of the same crop as that row, which is found instead
    Index("ix_memory_rows_claim", "claim_hash"),
    Index("ix_memory_rows_same_as", "same_as"),
    Index("ix_memory_rows_backbone", "backbone"),
)

packs = Table(
    "memory_packs",
    metadata,
    Column("identity", String(64), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("rows", Integer, nullable=False),
    Column("loaded_at", BigInteger, nullable=False),
)

events = Table(
    "memory_events",
    metadata,
    Column("id", String(40), primary_key=True),  # a ULID: ordered by time
    Column("at", BigInteger, nullable=False),
    Column("tenant", String(64)),
    Column("action", String(16), nullable=False),
    Column("case_id", String(120)),
    Column("reviewer", String(120)),
    Column("detail", JSON, nullable=False),
    Index("ix_memory_events_tenant", "tenant", "id"),
)
