"""Alembic's entry: migrate on the connection that `migrate.upgrade` hands over."""

from __future__ import annotations

from alembic import context

from services.gateway.records.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite cannot alter most columns in place
)
context.run_migrations()
