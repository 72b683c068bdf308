"""Expired claims are an event of their own: whoever heard of them as failed ones goes on hearing of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_webhooks = sa.table("webhooks", sa.column("id", sa.String), sa.column("events", sa.JSON))


def upgrade() -> None:
    for webhook_id, events in op.get_bind().execute(sa.select(_webhooks.c.id, _webhooks.c.events)).all():
        if "claim.failed" in events:
            _write(webhook_id, [*events, "claim.expired"])


def downgrade() -> None:
    for webhook_id, events in op.get_bind().execute(sa.select(_webhooks.c.id, _webhooks.c.events)).all():
        _write(webhook_id, [event for event in events if event != "claim.expired"] or ["claim.failed"])


def _write(webhook_id: str, events: list[str]) -> None:
    op.get_bind().execute(_webhooks.update().where(_webhooks.c.id == webhook_id).values(events=events))
