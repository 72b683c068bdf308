"""Batches: parts, photos and lines."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("external_ref", sa.String(200)),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("completed_at", sa.BigInteger),
    )
    op.create_index("ix_batches_tenant", "batches", ["tenant", "id"])
    op.create_index("ix_batches_status", "batches", ["status", "id"])
    op.create_table(
        "batch_parts",
        _batch(),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("photos", sa.Integer, nullable=False),
    )
    op.create_table(
        "batch_files",
        _batch(),
        sa.Column("name", sa.String(300), primary_key=True),
        sa.Column("part", sa.Integer, nullable=False),
        sa.Column("photo_id", sa.String(40), nullable=False),
        sa.Column("sha256", sa.String(64)),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("error", sa.JSON),
        sa.Column("line", sa.Integer),
    )
    op.create_table(
        "batch_lines",
        _batch(),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("key", sa.String(300), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("taken_at", sa.BigInteger),
        sa.Column("claim_id", sa.String(40)),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("error", sa.JSON),
    )
    op.create_index("ix_batch_lines_claim_id", "batch_lines", ["claim_id"])
    op.create_index("ix_batch_lines_state", "batch_lines", ["batch_id", "state", "number"])


def downgrade() -> None:
    for table in ("batch_lines", "batch_files", "batch_parts", "batches"):
        op.drop_table(table)


def _batch() -> sa.Column[str]:
    return sa.Column("batch_id", sa.String(40), sa.ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True)
