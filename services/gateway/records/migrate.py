"""The records' migrations: see `common.serving.migrations`."""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from sqlalchemy import Connection

from services.common.serving import migrations

_SCRIPTS = Path(__file__).parent / "migrations"


def config() -> Config:
    return migrations.config(_SCRIPTS)


def upgrade(connection: Connection) -> None:
    """Upgrade to the newest schema inside the caller's transaction."""
    migrations.upgrade(connection, _SCRIPTS)
