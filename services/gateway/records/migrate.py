"""Running the packaged Alembic migrations at start, under a lock that works in both databases."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

_SCRIPTS = Path(__file__).parent / "migrations"
_LOCK = 0x636C61696D  # "claim": PostgreSQL's advisory locks are named by numbers


def config() -> Config:
    """Alembic's configuration without an ini file, so that it works from an installed package."""
    made = Config()
    made.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return made


def upgrade(connection: Connection) -> None:
    """Upgrade to the newest schema inside the caller's transaction.

    In SQLite that transaction already holds the write lock; in PostgreSQL an advisory lock keeps two starting
    processes from creating the same table.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    prepared = config()
    prepared.attributes["connection"] = connection
    command.upgrade(prepared, "head")
