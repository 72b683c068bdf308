"""Erasures, idempotency keys, and what callers say of vehicles and photos."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("claims", sa.Column("vehicle", sa.JSON))
    op.add_column("photos", sa.Column("angle", sa.String(16)))
    op.create_table(
        "erasures",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("claim_id", sa.String(40), nullable=False),
        sa.Column("cause", sa.String(16), nullable=False),
        sa.Column("key_id", sa.String(40)),
        sa.Column("requested_at", sa.BigInteger, nullable=False),
        sa.Column("completed_at", sa.BigInteger),
        sa.Column("erased", sa.JSON, nullable=False),
        sa.Column("left", sa.JSON, nullable=False),
    )
    op.create_index("ix_erasures_claim_id", "erasures", ["claim_id"])
    op.create_index("ix_erasures_completed_at", "erasures", ["completed_at"])
    op.create_table(
        "idempotency",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("resource", sa.String(40), nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_idempotency_resource", "idempotency", ["resource"])
    op.create_index("ix_idempotency_created_at", "idempotency", ["created_at"])


def downgrade() -> None:
    op.drop_table("idempotency")
    op.drop_table("erasures")
    op.drop_column("photos", "angle")
    op.drop_column("claims", "vehicle")
