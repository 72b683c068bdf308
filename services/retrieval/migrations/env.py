"""Alembic's entry: migrate on the connection that is handed over.

The version stands in a table of its own: in PostgreSQL the gateway's records share the database.
"""

from __future__ import annotations

from alembic import context

from services.retrieval.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="memory_alembic_version",
)
context.run_migrations()
