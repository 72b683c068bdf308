"""The tables of packs: which version of each model answers claims, and what a candidate said beside it."""

from __future__ import annotations

from sqlalchemy import BigInteger, Double, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from services.gateway.records.models import Base, Json


class PackRule(Base):
    """Whose answers count: `active`, or the service's own pack where that is None. `candidate` gets a `share`."""

    __tablename__ = "pack_rules"

    service: Mapped[str] = mapped_column(String(16), primary_key=True)
    active: Mapped[str | None] = mapped_column(String(64))
    previous: Mapped[str | None] = mapped_column(String(64))
    candidate: Mapped[str | None] = mapped_column(String(64))
    share: Mapped[float] = mapped_column(Double, default=0.0)
    changed_at: Mapped[int] = mapped_column(BigInteger)


class PackTrial(Base):
    """One photo as a candidate saw it, after its claim was finished without it. Goes with the claim."""

    __tablename__ = "pack_trials"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    claim_id: Mapped[str] = mapped_column(ForeignKey("claims.id", ondelete="CASCADE"), index=True)
    photo_id: Mapped[str] = mapped_column(String(40))
    created_at: Mapped[int] = mapped_column(BigInteger)
    pair: Mapped[str] = mapped_column(String(300))  # which packs were compared
    error: Mapped[str | None] = mapped_column(String(64))  # the problem's type, where the candidate gave no answer
    comparison: Mapped[Json] = mapped_column()
    answer: Mapped[Json] = mapped_column()

    __table_args__ = (Index("ix_pack_trials_pair", "pair", "id"),)
