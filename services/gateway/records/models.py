"""The tables of the records: the one place where truth about a claim lives.

Times are whole milliseconds since 1970 in UTC: one meaning in SQLite and PostgreSQL. Ids are prefixed ULIDs, so
ordering by id is ordering by creation.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, String, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

Json = dict[str, Any]
OPEN = ("queued", "processing")  # statuses of a claim that is not finished


class Base(DeclarativeBase):
    type_annotation_map = {Json: JSON, list[Json]: JSON, list[str]: JSON}  # noqa: RUF012 - SQLAlchemy's own idiom


class Claim(Base):
    """One claim. `attempt` counts the workers that began it: only the latest may write (see `store.py`).

    `version` counts up with every UPDATE by itself, and whatever changes a claim's photos or findings updates the claim
    in the same transaction: one number says whether a client has seen it all.
    `lane` is "interactive", or "batch" where it waits behind all interactive claims.
    """

    __tablename__ = "claims"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64), default="default", server_default="default")
    lane: Mapped[str] = mapped_column(String(16), default="interactive", server_default="interactive")
    status: Mapped[str] = mapped_column(String(16))
    attempt: Mapped[int] = mapped_column(default=0)
    version: Mapped[int] = mapped_column(default=0, server_default="0", onupdate=text("version + 1"))
    external_ref: Mapped[str | None] = mapped_column(String(200))
    annotations: Mapped[Json] = mapped_column("metadata", default=dict)
    vehicle: Mapped[Json | None] = mapped_column()
    created_at: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[int | None] = mapped_column(BigInteger)
    completed_at: Mapped[int | None] = mapped_column(BigInteger)
    expires_at: Mapped[int | None] = mapped_column(BigInteger)  # its deadline; a batch's claims have none
    partial: Mapped[bool] = mapped_column(default=False)
    route: Mapped[str | None] = mapped_column(String(16))
    summary: Mapped[Json | None] = mapped_column()
    error: Mapped[Json | None] = mapped_column()

    photos: Mapped[list[Photo]] = relationship(order_by="Photo.position", lazy="raise")

    __table_args__ = (
        Index("ix_claims_tenant", "tenant", "id"),
        Index("ix_claims_status", "status", "id"),
        Index("ix_claims_external_ref", "external_ref"),
        Index("ix_claims_completed_at", "completed_at"),
    )


class Photo(Base):
    """One photo of a claim. `sha256` names its bytes in the photo store; None where nothing was worth keeping."""

    __tablename__ = "photos"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    claim_id: Mapped[str] = mapped_column(ForeignKey("claims.id", ondelete="CASCADE"), index=True)
    position: Mapped[int]
    status: Mapped[str] = mapped_column(String(16))
    sha256: Mapped[str | None] = mapped_column(String(64), index=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    angle: Mapped[str | None] = mapped_column(String(16))  # what it shows, as the caller says: the API's `view`
    width: Mapped[int | None]
    height: Mapped[int | None]
    view: Mapped[Json] = mapped_column(
        default=dict
    )  # what the photo shows beside damages: vehicle, parts, look-alikes, models
    reasons: Mapped[list[Json]] = mapped_column(default=list)
    timings_ms: Mapped[Json] = mapped_column(default=dict)
    error: Mapped[Json | None] = mapped_column()

    findings: Mapped[list[Finding]] = relationship(order_by="Finding.position", lazy="raise")


class Finding(Base):
    """One damage on one photo: the columns that are searched, and everything else as the API shows it."""

    __tablename__ = "findings"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    claim_id: Mapped[str] = mapped_column(ForeignKey("claims.id", ondelete="CASCADE"), index=True)
    photo_id: Mapped[str] = mapped_column(ForeignKey("photos.id", ondelete="CASCADE"), index=True)
    position: Mapped[int]
    damage: Mapped[str] = mapped_column(String(64), index=True)
    part: Mapped[str | None] = mapped_column(String(64), index=True)
    opinion: Mapped[str] = mapped_column(String(64))
    confidence: Mapped[float] = mapped_column(Double)
    route: Mapped[str] = mapped_column(String(16))
    document: Mapped[Json] = mapped_column()
    review: Mapped[Json | None] = mapped_column()  # the decision that stands; the document stays as the models left it
