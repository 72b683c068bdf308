"""Cases that people add: whose they are, who labelled them, when they were taken back, and a log of all that.

Claims are kept as a hash. No row had one before: nothing could add cases.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_NEW = (("tenant", 64), ("claim_hash", 64), ("reviewer", 120), ("same_as", 120))


def upgrade() -> None:
    for name, length in _NEW:
        op.add_column("memory_rows", sa.Column(name, sa.String(length)))
    op.add_column("memory_rows", sa.Column("retracted_at", sa.BigInteger))
    op.drop_index("ix_memory_rows_claim_id", "memory_rows")
    op.drop_column("memory_rows", "claim_id")
    op.create_index("ix_memory_rows_claim", "memory_rows", ["claim_hash"])
    op.create_index("ix_memory_rows_same_as", "memory_rows", ["same_as"])
    op.create_table(
        "memory_events",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("tenant", sa.String(64)),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("case_id", sa.String(120)),
        sa.Column("reviewer", sa.String(120)),
        sa.Column("detail", sa.JSON, nullable=False),
    )
    op.create_index("ix_memory_events_tenant", "memory_events", ["tenant", "id"])


def downgrade() -> None:
    op.drop_table("memory_events")
    op.drop_index("ix_memory_rows_same_as", "memory_rows")
    op.drop_index("ix_memory_rows_claim", "memory_rows")
    op.add_column("memory_rows", sa.Column("claim_id", sa.String(40)))
    op.create_index("ix_memory_rows_claim_id", "memory_rows", ["claim_id"])
    for name in ("retracted_at", *(name for name, _ in _NEW)):
        op.drop_column("memory_rows", name)
