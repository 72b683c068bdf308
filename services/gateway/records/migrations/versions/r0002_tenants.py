"""Whose claim it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # Plain ALTER TABLE: rebuilding the table, as batch mode would in SQLite, drops it and so cascades to the photos.
    op.add_column("claims", sa.Column("tenant", sa.String(64), nullable=False, server_default="default"))
    op.create_index("ix_claims_tenant", "claims", ["tenant", "id"])


def downgrade() -> None:
    op.drop_index("ix_claims_tenant", "claims")
    op.drop_column("claims", "tenant")
