"""Every table of the records, gathered for Alembic: a table that is not imported is one it does not know."""

from __future__ import annotations

from services.gateway.records import (
    batch_rows,
    erasures,
    generation_rows,
    idempotency,
    keys,
    pack_rows,
    review_rows,
    usage,
    webhook_rows,
)
from services.gateway.records.models import Base

__all__ = [
    "Base",
    "batch_rows",
    "erasures",
    "generation_rows",
    "idempotency",
    "keys",
    "pack_rows",
    "review_rows",
    "usage",
    "webhook_rows",
]
