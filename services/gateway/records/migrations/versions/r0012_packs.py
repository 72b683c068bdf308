"""Which version of each model answers claims, and what candidates said beside it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "pack_rules",
        sa.Column("service", sa.String(16), primary_key=True),
        sa.Column("active", sa.String(64)),
        sa.Column("previous", sa.String(64)),
        sa.Column("candidate", sa.String(64)),
        sa.Column("share", sa.Double, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "pack_trials",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("claim_id", sa.String(40), sa.ForeignKey("claims.id", ondelete="CASCADE"), nullable=False),
        sa.Column("photo_id", sa.String(40), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("pair", sa.String(300), nullable=False),
        sa.Column("error", sa.String(64)),
        sa.Column("comparison", sa.JSON, nullable=False),
        sa.Column("answer", sa.JSON, nullable=False),
    )
    op.create_index("ix_pack_trials_claim_id", "pack_trials", ["claim_id"])
    op.create_index("ix_pack_trials_pair", "pack_trials", ["pair", "id"])


def downgrade() -> None:
    for table in ("pack_trials", "pack_rules"):
        op.drop_table(table)
