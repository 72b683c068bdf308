"""Opening the database: SQLite in WAL mode for one machine, PostgreSQL for several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVarTuple

from sqlalchemy import URL, Connection, Engine, Row, Select, StaticPool, create_engine, event
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
        self._kept: Connection | None = None
        if self.sqlite:
            Path(parsed.database or "").parent.mkdir(parents=True, exist_ok=True)
            parsed = parsed.set(drivername=inline.NAME)
            self.writing = _sqlite(parsed, inline.LOCKING, "journal_mode=WAL", "busy_timeout=0")
            # As many as there are readers; none is cut off with its client (`whole`) and keeps an old snapshot.
            self.reading = _sqlite(parsed, "BEGIN DEFERRED", *_READER, max_overflow=-1)
            self._eyes = create_engine(
                parsed.set(drivername="sqlite"), poolclass=StaticPool, isolation_level="AUTOCOMMIT"
            )
            _prepared(self._eyes, None, *_READER)
        else:
            self.reading = self.writing = create_async_engine(parsed.set(drivername=_POSTGRES), pool_pre_ping=True)
            self._eyes = self.reading.execution_options(isolation_level="AUTOCOMMIT").sync_engine

    async def glance(self, query: Select[*Ts], **parameters: object) -> Sequence[Row[*Ts]]:
        """Every row of one statement, as committed when it is asked.

        Without a transaction, and in SQLite on a connection that is kept: a new one reads the whole schema first, and
        to take one out of a pool and back costs as much as what it is asked. All rows are fetched at once, so that no
        snapshot of today stays behind for who asks tomorrow.
        """
        if self.sqlite:
            if self._kept is None:
                self._kept = self._eyes.connect()
            return self._kept.execute(query, parameters).all()
        return await greenlet_spawn(self._glance, query, parameters)

    def _glance(self, query: Select[*Ts], parameters: dict[str, object]) -> Sequence[Row[*Ts]]:
        with self._eyes.connect() as connection:
            return connection.execute(query, parameters).all()

    async def upgrade(self) -> None:
        """Bring the schema to this version; several processes may start at once."""
        async with self.writing.begin() as connection:
            await connection.run_sync(migrate.upgrade)

    async def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._eyes.dispose()
            self._kept = None
        await self.reading.dispose()
        await self.writing.dispose()


def _sqlite(url: URL, begin: str | None, *pragmas: str, **pool: Any) -> AsyncEngine:
    engine = create_async_engine(url, **pool)
    _prepared(engine.sync_engine, begin, *pragmas)
    return engine


def _prepared(engine: Engine, begin: str | None, *pragmas: str) -> None:
    @event.listens_for(engine, "connect")
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

        @event.listens_for(engine, "begin")
        def begun(connection: Connection) -> None:
            connection.exec_driver_sql(begin)
