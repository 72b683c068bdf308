"""Claims, photos and findings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "claims",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("external_ref", sa.String(200)),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("completed_at", sa.BigInteger),
        sa.Column("partial", sa.Boolean, nullable=False),
        sa.Column("route", sa.String(16)),
        sa.Column("summary", sa.JSON),
        sa.Column("error", sa.JSON),
    )
    op.create_index("ix_claims_status", "claims", ["status", "id"])
    op.create_index("ix_claims_external_ref", "claims", ["external_ref"])
    op.create_table(
        "photos",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("claim_id", sa.String(40), sa.ForeignKey("claims.id", ondelete="CASCADE"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("sha256", sa.String(64)),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("view", sa.JSON, nullable=False),
        sa.Column("reasons", sa.JSON, nullable=False),
        sa.Column("timings_ms", sa.JSON, nullable=False),
        sa.Column("error", sa.JSON),
    )
    op.create_index("ix_photos_claim_id", "photos", ["claim_id"])
    op.create_index("ix_photos_sha256", "photos", ["sha256"])
    op.create_table(
        "findings",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("claim_id", sa.String(40), sa.ForeignKey("claims.id", ondelete="CASCADE"), nullable=False),
        sa.Column("photo_id", sa.String(40), sa.ForeignKey("photos.id", ondelete="CASCADE"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("damage", sa.String(64), nullable=False),
        sa.Column("part", sa.String(64)),
        sa.Column("opinion", sa.String(64), nullable=False),
        sa.Column("confidence", sa.Double, nullable=False),
        sa.Column("route", sa.String(16), nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
    )
    for column in ("claim_id", "photo_id", "damage", "part"):
        op.create_index(f"ix_findings_{column}", "findings", [column])


def downgrade() -> None:
    for table in ("findings", "photos", "claims"):
        op.drop_table(table)
