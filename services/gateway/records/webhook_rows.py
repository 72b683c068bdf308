"""The tables of webhooks: who wants to hear, and everything that was or is to be told."""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from services.gateway.records.models import Base, Json


class Webhook(Base):
    """A receiver. `secret` signs what is sent and must be kept as it is; `disabled` says why nothing is sent.

    `old_secret` signs beside it until `old_until`: the receiver has so long to take up the new one.
    """

    __tablename__ = "webhooks"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64), index=True)
    url: Mapped[str] = mapped_column(String(2000))
    secret: Mapped[str] = mapped_column(String(100))
    old_secret: Mapped[str | None] = mapped_column(String(100))
    old_until: Mapped[int | None] = mapped_column(BigInteger)
    events: Mapped[list[str]] = mapped_column()
    disabled: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[int] = mapped_column(BigInteger)


class Delivery(Base):
    """One event for one receiver. `body` never changes, so that every try sends the same bytes under the same event id.

    `status` is pending until it is delivered or failed; `due_at` is when the next try may begin, and while one runs,
    when it counts as lost with the process that made it. `log` holds the latest tries.
    """

    __tablename__ = "webhook_deliveries"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    claim_id: Mapped[str | None] = mapped_column(ForeignKey("claims.id", ondelete="CASCADE"), index=True)
    event_id: Mapped[str] = mapped_column(String(40))
    event: Mapped[str] = mapped_column(String(40))
    body: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16))
    tries: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[int] = mapped_column(BigInteger)
    log: Mapped[list[Json]] = mapped_column(default=list)
    created_at: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (
        Index("ix_webhook_deliveries_webhook", "webhook_id", "id"),
        Index("ix_webhook_deliveries_due", "status", "due_at"),
    )
