"""Opening the database: SQLite in WAL mode for one machine, PostgreSQL for several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVarTuple

from sqlalchemy import URL, Connection, NullPool, Row, Select, event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import greenlet_spawn

from services.gateway.records import inline, migrate

Ts = TypeVarTuple("Ts")

_POSTGRES = "postgresql+psycopg"
_READER = ("query_only=ON", "busy_timeout=10000")


class Database:
    """An engine for `writing`, one for `reading` what must fit together, and `glance` for a single statement.

    SQLite's transactions that write take the lock at once: one that first reads and then writes fails when another
    wrote in between, while one that begins IMMEDIATE waits its turn.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self.sqlite = parsed.get_backend_name() == "sqlite"
        if self.sqlite:
            Path(parsed.database or "").parent.mkdir(parents=True, exist_ok=True)
            parsed = parsed.set(drivername=inline.NAME)
            self.writing = _sqlite(parsed, inline.LOCKING, "journal_mode=WAL", "busy_timeout=0")
            # A new connection for each reader: one that is cut off with its client cannot leave an old snapshot behind.
            self.reading = _sqlite(parsed, "BEGIN DEFERRED", *_READER, poolclass=NullPool)
            self._glancing = _sqlite(parsed, None, *_READER)
        else:
            self.reading = self.writing = create_async_engine(parsed.set(drivername=_POSTGRES), pool_pre_ping=True)
            self._glancing = self.reading.execution_options(isolation_level="AUTOCOMMIT")

    async def glance(self, query: Select[*Ts], **parameters: object) -> Sequence[Row[*Ts]]:
        """Every row of one statement, as committed when it is asked.

        Without a transaction, and in SQLite on a connection that is kept: a new one reads the whole schema first. All
        rows are fetched at once, so that no snapshot of today stays behind for who asks tomorrow.
        """
        return await greenlet_spawn(self._glance, query, parameters)

    def _glance(self, query: Select[*Ts], parameters: dict[str, object]) -> Sequence[Row[*Ts]]:
        with self._glancing.sync_engine.connect() as connection:
            return connection.execute(query, parameters).all()

    async def upgrade(self) -> None:
        """Bring the schema to this version; several processes may start at once."""
        async with self.writing.begin() as connection:
            await connection.run_sync(migrate.upgrade)

    async def close(self) -> None:
        await self._glancing.dispose()
        await self.reading.dispose()
        await self.writing.dispose()


def _sqlite(url: URL, begin: str | None, *pragmas: str, **pool: Any) -> AsyncEngine:
    engine = create_async_engine(url, **pool)

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions of its own; `begun` does
        cursor = connection.cursor()
        for pragma in (
            *pragmas,
            "synchronous=NORMAL",  # survives a killed process; a power cut can lose the last commits, never the file
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    if begin is not None:

        @event.listens_for(engine.sync_engine, "begin")
        def begun(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

    return engine
