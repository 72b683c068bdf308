"""Claims of batches wait behind interactive ones, also after the queue was lost."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("claims", sa.Column("lane", sa.String(16), nullable=False, server_default="interactive"))


def downgrade() -> None:
    op.drop_column("claims", "lane")
