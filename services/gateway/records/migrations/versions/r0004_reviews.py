"""What waits for a person, and what people decided."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("findings", sa.Column("review", sa.JSON))
    _cases()
    _reviews()
    # What was routed to review before there was a queue; the doubt is all that its columns tell about it.
    op.execute(
        "INSERT INTO review_cases (finding_id, claim_id, tenant, state, informative, skips, version) "
        "SELECT findings.id, findings.claim_id, claims.tenant, 'open', (1 - findings.confidence) / 3, 0, 1 "
        "FROM findings JOIN claims ON claims.id = findings.claim_id "
        "WHERE findings.route = 'review' AND claims.status = 'succeeded'"
    )


def _cases() -> None:
    op.create_table(
        "review_cases",
        sa.Column("finding_id", sa.String(40), sa.ForeignKey("findings.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("claim_id", sa.String(40), sa.ForeignKey("claims.id", ondelete="CASCADE"), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("informative", sa.Double, nullable=False),
        sa.Column("skips", sa.Integer, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("lease", sa.String(40)),
        sa.Column("holder", sa.String(120)),
        sa.Column("held_until", sa.BigInteger),
        sa.Column("review_id", sa.String(40)),
    )
    op.create_index("ix_review_cases_claim_id", "review_cases", ["claim_id"])
    op.create_index("ix_review_cases_queue", "review_cases", ["tenant", "state", "skips", "informative"])


def _reviews() -> None:
    op.create_table(
        "reviews",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("finding_id", sa.String(40), sa.ForeignKey("findings.id", ondelete="CASCADE"), nullable=False),
        sa.Column("claim_id", sa.String(40), sa.ForeignKey("claims.id", ondelete="CASCADE"), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("action", sa.String(8), nullable=False),
        sa.Column("key_id", sa.String(64)),
        sa.Column("reviewer", sa.String(80)),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("before", sa.JSON, nullable=False),
        sa.Column("after", sa.JSON, nullable=False),
        sa.Column("undone_at", sa.BigInteger),
        sa.Column("undone_by", sa.String(120)),
        sa.Column("label", sa.String(64)),
        sa.Column("memory", sa.String(8), nullable=False),
        sa.Column("memory_note", sa.String(500)),
    )
    op.create_index("ix_reviews_finding_id", "reviews", ["finding_id"])
    op.create_index("ix_reviews_claim_id", "reviews", ["claim_id"])
    op.create_index("ix_reviews_day", "reviews", ["tenant", "created_at"])
    op.create_index("ix_reviews_memory", "reviews", ["memory", "id"])


def downgrade() -> None:
    op.drop_table("reviews")
    op.drop_table("review_cases")
    op.drop_column("findings", "review")
