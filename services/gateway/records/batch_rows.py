"""The tables of batches: what has arrived, and what each line of the manifest came to."""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from services.gateway.records.models import Base, Json


class Batch(Base):
    """One batch. Its status goes one way: uploading -> processing -> succeeded | canceled | expired."""

    __tablename__ = "batches"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(16))
    external_ref: Mapped[str | None] = mapped_column(String(200))
    annotations: Mapped[Json] = mapped_column("metadata", default=dict)
    created_at: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[int | None] = mapped_column(BigInteger)
    completed_at: Mapped[int | None] = mapped_column(BigInteger)

    __table_args__ = (Index("ix_batches_tenant", "tenant", "id"), Index("ix_batches_status", "status", "id"))


class Part(Base):
    """One archive that has arrived whole; `sha256` is that of the archive."""

    __tablename__ = "batch_parts"

    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)
    photos: Mapped[int]


class File(Base):
    """One photo of a part, under its name in the archive. `line` is the line whose claim it belongs to."""

    __tablename__ = "batch_files"

    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(300), primary_key=True)
    part: Mapped[int]
    photo_id: Mapped[str] = mapped_column(String(40))
    sha256: Mapped[str | None] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)
    error: Mapped[Json | None] = mapped_column()
    line: Mapped[int | None]


class Line(Base):
    """One line of the manifest: one claim to be.

    `state` goes waiting -> taken -> sent | failed. A line that is `taken` has its claim's id already: whoever finishes
    what a dead process began makes the same claim, never a second one.
    """

    __tablename__ = "batch_lines"

    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(300))
    state: Mapped[str] = mapped_column(String(16), default="waiting")
    taken_at: Mapped[int | None] = mapped_column(BigInteger)
    claim_id: Mapped[str | None] = mapped_column(String(40), index=True)
    document: Mapped[Json] = mapped_column()  # photos, external_ref and metadata as the manifest has them
    error: Mapped[Json | None] = mapped_column()

    __table_args__ = (Index("ix_batch_lines_state", "batch_id", "state", "number"),)
