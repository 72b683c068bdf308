"""Claims wait for a person too: a case is about a finding or about a claim, so it refers to the claim alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_UNPLACED = {"no_damage", "photo_failed", "photo_generated", "no_vehicle", "too_many_findings"}
_INDEXES = {
    "review_cases": {"claim_id": ["claim_id"], "queue": ["tenant", "state", "skips", "informative"]},
    "reviews": {"claim_id": ["claim_id"], "day": ["tenant", "created_at"], "memory": ["memory", "id"]},
}


def upgrade() -> None:
    _rebuild("finding_id", "subject_id", lambda: sa.Column("subject_id", sa.String(40), nullable=False))
    _waiting_claims()


def downgrade() -> None:
    for table in ("review_cases", "reviews"):  # claims had no cases, and nobody could add a finding
        op.execute(f"DELETE FROM {table} WHERE subject_id NOT IN (SELECT id FROM findings)")
    _rebuild("subject_id", "finding_id", _finding)


def _rebuild(before: str, after: str, subject: Callable[[], sa.Column[str]]) -> None:
    """Both tables with another first reference. SQLite cannot change a constraint: the rows move to a new table."""
    for table, columns, key in (("review_cases", _cases(), after), ("reviews", _reviews(), "id")):
        for index in ([before] if table == "reviews" else []) + list(_INDEXES[table]):
            op.drop_index(f"ix_{table}_{index}", table)
        op.rename_table(table, f"{table}_before")
        kept = [column.name for column in columns]
        op.create_table(table, subject(), *columns, sa.PrimaryKeyConstraint(key))
        op.execute(
            f"INSERT INTO {table} ({after}, {', '.join(kept)}) SELECT {before}, {', '.join(kept)} FROM {table}_before"
        )
        op.drop_table(f"{table}_before")
        if table == "reviews":
            op.create_index(f"ix_reviews_{after}", table, [after])
        for index, of in _INDEXES[table].items():
            op.create_index(f"ix_{table}_{index}", table, of)


def _waiting_claims() -> None:
    """Claims that are in review for a reason without a finding, from before they had a case."""
    connection = op.get_bind()
    claims = sa.table("claims", *map(sa.column, ("id", "tenant", "status", "route")), sa.column("summary", sa.JSON))
    found = connection.execute(
        sa.select(claims.c.id, claims.c.tenant, claims.c.summary).where(
            claims.c.status == "succeeded", claims.c.route == "review"
        )
    ).all()
    for claim_id, tenant, summary in found:
        told = json.loads(summary) if isinstance(summary, str) else summary or {}
        if _UNPLACED & {reason["code"] for reason in told.get("reasons", [])}:
            connection.execute(
                sa.text(
                    "INSERT INTO review_cases (subject_id, claim_id, tenant, state, informative, skips, version) "
                    "VALUES (:id, :id, :tenant, 'open', 0.5, 0, 1)"
                ),
                {"id": claim_id, "tenant": tenant},
            )


def _cases() -> list[sa.Column[Any]]:
    return [
        _claim(),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("informative", sa.Double, nullable=False),
        sa.Column("skips", sa.Integer, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("lease", sa.String(40)),
        sa.Column("holder", sa.String(120)),
        sa.Column("held_until", sa.BigInteger),
        sa.Column("review_id", sa.String(40)),
    ]


def _reviews() -> list[sa.Column[Any]]:
    return [
        sa.Column("id", sa.String(40), nullable=False),
        _claim(),
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
    ]


def _finding() -> sa.Column[str]:
    return sa.Column("finding_id", sa.String(40), sa.ForeignKey("findings.id", ondelete="CASCADE"), nullable=False)


def _claim() -> sa.Column[str]:
    return sa.Column("claim_id", sa.String(40), sa.ForeignKey("claims.id", ondelete="CASCADE"), nullable=False)
