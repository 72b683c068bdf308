"""Running a service's packaged Alembic migrations at start, under a lock that works in both databases."""

from __future__ import annotations

import threading
import zlib
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

_ALEMBIC = threading.Lock()  # it keeps the running migration in globals, and in one process two services start at once


def config(scripts: Path) -> Config:
    """Alembic's configuration without an ini file, so that it works from an installed package."""
    made = Config()
    made.set_main_option("script_location", str(scripts).replace("%", "%%"))
    return made


def upgrade(connection: Connection, scripts: Path) -> None:
    """Upgrade to the newest schema inside the caller's transaction.

    In SQLite that transaction already holds the write lock; in PostgreSQL an advisory lock keeps two starting
    processes from creating the same table.
    """
    if connection.dialect.name == "postgresql":
        # Advisory locks are named by numbers; any will do that no other service takes.
        key = zlib.crc32(scripts.parent.name.encode())
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
    prepared = config(scripts)
    prepared.attributes["connection"] = connection
    with _ALEMBIC:
        command.upgrade(prepared, "head")
