"""The tables of generated pictures: the jobs, and the registry by which our own pictures are known again."""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from services.gateway.records.models import Base, Json


class Generation(Base):
    """One generation and its audit: who asked (`tenant`, `key_id`), for what (`ask`, without photos), from which model.

    `attempt` fences writers as a claim's does; `lost` counts how often a generator died while it drew this.
    """

    __tablename__ = "generations"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    key_id: Mapped[str | None] = mapped_column(String(40))
    status: Mapped[str] = mapped_column(String(16))
    attempt: Mapped[int] = mapped_column(default=0)
    lost: Mapped[int] = mapped_column(default=0)
    ask: Mapped[Json] = mapped_column()
    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int]
    model: Mapped[Json | None] = mapped_column()
    created_at: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[int | None] = mapped_column(BigInteger)
    completed_at: Mapped[int | None] = mapped_column(BigInteger)
    error: Mapped[Json | None] = mapped_column()

    images: Mapped[list[GeneratedImage]] = relationship(order_by="GeneratedImage.number", lazy="raise")

    __table_args__ = (
        Index("ix_generations_tenant", "tenant", "id"),
        Index("ix_generations_status", "status", "id"),
    )


class GeneratedImage(Base):
    """One picture. `fingerprint` is safetensors: what is needed to know the picture again after its file is gone."""

    __tablename__ = "generated_images"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    generation_id: Mapped[str] = mapped_column(ForeignKey("generations.id"), index=True)
    number: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    hash: Mapped[str] = mapped_column(String(16))
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    document: Mapped[Json] = mapped_column()
    created_at: Mapped[int] = mapped_column(BigInteger)
