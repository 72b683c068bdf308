"""Opening the database: SQLite in WAL mode for one machine, PostgreSQL for several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from services.gateway.records import migrate

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


class Database:
    """An engine in two views: `reading`, and `writing`, whose transactions take SQLite's write lock at once.

    A SQLite transaction that first reads and then writes fails when another wrote in between; one that begins
    IMMEDIATE waits its turn instead.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        parsed = parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))
        self.sqlite = parsed.get_backend_name() == "sqlite"
        self.reading: AsyncEngine = create_async_engine(parsed, pool_pre_ping=not self.sqlite)
        if self.sqlite:
            Path(parsed.database or "").parent.mkdir(parents=True, exist_ok=True)
            _tune_sqlite(self.reading)
        self.writing = self.reading.execution_options(sqlite_begin="IMMEDIATE")

    async def upgrade(self) -> None:
        """Bring the schema to this version; several processes may start at once."""
        async with self.writing.begin() as connection:
            await connection.run_sync(migrate.upgrade)

    async def close(self) -> None:
        await self.reading.dispose()


def _tune_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions of its own; `begun` does
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",  # survives a killed process; a power cut can lose the last commits, never the file
            "busy_timeout=10000",
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('sqlite_begin', 'DEFERRED')}")
