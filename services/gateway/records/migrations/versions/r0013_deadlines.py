"""Until when a claim is worth concluding, and the webhook secret that is being replaced."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column("claims", sa.Column("expires_at", sa.BigInteger))
    op.add_column("webhooks", sa.Column("old_secret", sa.String(100)))
    op.add_column("webhooks", sa.Column("old_until", sa.BigInteger))


def downgrade() -> None:
    op.drop_column("webhooks", "old_until")
    op.drop_column("webhooks", "old_secret")
    op.drop_column("claims", "expires_at")
