"""Generations and the registry of generated pictures."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "generations",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(40)),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
        sa.Column("lost", sa.Integer, nullable=False, server_default="0"),
        sa.Column("ask", sa.JSON, nullable=False),
        sa.Column("done", sa.Integer, nullable=False, server_default="0"),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("model", sa.JSON),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("completed_at", sa.BigInteger),
        sa.Column("error", sa.JSON),
    )
    op.create_index("ix_generations_tenant", "generations", ["tenant", "id"])
    op.create_index("ix_generations_status", "generations", ["status", "id"])
    op.create_table(
        "generated_images",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("generation_id", sa.String(40), sa.ForeignKey("generations.id"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(16), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_generated_images_generation_id", "generated_images", ["generation_id"])
    op.create_index("ix_generated_images_sha256", "generated_images", ["sha256"])


def downgrade() -> None:
    for table in ("generated_images", "generations"):
        op.drop_table(table)
