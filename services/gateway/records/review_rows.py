"""The tables of reviewing: what waits for a person, and every decision that a person has made."""

from __future__ import annotations

from sqlalchemy import BigInteger, Double, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from services.gateway.records.models import Base, Json


class ReviewCase(Base):
    """A finding in the queue, or a claim with a doubt that no finding stands for.

    `version` counts its changes: only who knows the latest may decide. `lease` is the holder's proof until
    `held_until`; `review_id` the decision that stands.
    """

    __tablename__ = "review_cases"

    subject_id: Mapped[str] = mapped_column(String(40), primary_key=True)  # the finding's id, or the claim's own
    claim_id: Mapped[str] = mapped_column(ForeignKey("claims.id", ondelete="CASCADE"), index=True)
    tenant: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(8))  # open | done | gone: a drawn damage that was taken back
    informative: Mapped[float] = mapped_column(Double)
    skips: Mapped[int] = mapped_column(default=0)
    version: Mapped[int] = mapped_column(default=1)
    lease: Mapped[str | None] = mapped_column(String(40))
    holder: Mapped[str | None] = mapped_column(String(120))
    held_until: Mapped[int | None] = mapped_column(BigInteger)
    review_id: Mapped[str | None] = mapped_column(String(40))

    __table_args__ = (Index("ix_review_cases_queue", "tenant", "state", "skips", "informative"),)

    @property
    def about_claim(self) -> bool:
        return self.subject_id == self.claim_id


class Review(Base):
    """One decision: who, when, what stood there before and after. Undoing marks it and removes nothing.

    `memory` is what the memory of past cases has to do about it: `wanted` -> `kept` or `refused`, and once it is
    undone `unwanted` -> `gone`; `none` where nothing is to be learned.
    """

    __tablename__ = "reviews"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    subject_id: Mapped[str] = mapped_column(String(40), index=True)
    claim_id: Mapped[str] = mapped_column(ForeignKey("claims.id", ondelete="CASCADE"), index=True)
    tenant: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(8))  # accept | correct | reject | add; of a claim: accept | reject | ask
    key_id: Mapped[str | None] = mapped_column(String(64))
    reviewer: Mapped[str | None] = mapped_column(String(80))
    created_at: Mapped[int] = mapped_column(BigInteger)
    before: Mapped[Json] = mapped_column()
    after: Mapped[Json] = mapped_column()
    undone_at: Mapped[int | None] = mapped_column(BigInteger)
    undone_by: Mapped[str | None] = mapped_column(String(120))
    label: Mapped[str | None] = mapped_column(String(64))  # the class that the memory learns
    memory: Mapped[str] = mapped_column(String(8))
    memory_note: Mapped[str | None] = mapped_column(String(500))  # why it was refused

    __table_args__ = (Index("ix_reviews_day", "tenant", "created_at"), Index("ix_reviews_memory", "memory", "id"))
