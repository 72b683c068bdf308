"""Rows and packs, as they were before migrations kept them: databases of that time have the tables already."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    if sa.inspect(op.get_bind()).has_table("memory_rows"):
        return
    op.create_table(
        "memory_rows",
        sa.Column("id", sa.String(120), primary_key=True),
        sa.Column("embedding", sa.LargeBinary, nullable=False),
        sa.Column("label", sa.String(64), nullable=False),
        sa.Column("size", sa.String(8)),
        sa.Column("part", sa.String(64)),
        sa.Column("source", sa.String(8), nullable=False),
        sa.Column("claim_id", sa.String(40)),
        sa.Column("image_group", sa.String(120)),
        sa.Column("backbone", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_memory_rows_claim_id", "memory_rows", ["claim_id"])
    op.create_index("ix_memory_rows_backbone", "memory_rows", ["backbone"])
    op.create_table(
        "memory_packs",
        sa.Column("identity", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("loaded_at", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("memory_packs")
    op.drop_table("memory_rows")
