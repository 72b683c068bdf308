"""SQLite on the event loop itself; only what may have to wait does so elsewhere.

The usual drivers send every cursor, statement and fetch through another thread: some twenty hops for what SQLite does
in a tenth of a millisecond. In WAL mode a reader waits for nobody. A writer waits once, for the lock, by asking again
(never inside SQLite, where a cancelled request could not leave), and for the disk when it commits, in a thread.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import URL, AsyncAdaptedQueuePool, Pool
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import await_only

NAME = "sqlite+inline"
LOCKING = "BEGIN IMMEDIATE"
_PATIENCE_S, _LOOK_S = 10.0, 0.001  # with who holds the lock; between two looks


class InlineDialect(SQLiteDialect_pysqlite):
    """The standard library's driver under SQLAlchemy's asynchronous engine. A connection for writing must not wait
    for locks by itself (`busy_timeout=0`): that would hold up the loop, and with it whoever has the lock.
    """

    driver = "inline"
    is_async = True
    supports_statement_cache = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._turn = asyncio.Lock()  # writers of one process queue here, so that only the first of them keeps looking

    @classmethod
    def get_pool_class(cls, url: URL) -> type[Pool]:
        return AsyncAdaptedQueuePool

    def connect(self, *arguments: Any, **options: Any) -> Any:
        connection = super().connect(*arguments, **{**options, "check_same_thread": False}, factory=_Connection)
        connection.turn = self._turn
        return connection


class _Cursor(sqlite3.Cursor):
    """With the two things that SQLAlchemy asks of an asynchronous driver's cursor: to await, and to close later."""

    connection: _Connection

    def execute(self, statement: str, *parameters: Any) -> _Cursor:
        if statement == LOCKING:
            await_only(_locked(lambda: super(_Cursor, self).execute(statement), self.connection.turn))
            return self
        await_only(_ready())
        return super().execute(statement, *parameters)

    def executemany(self, *statement: Any) -> _Cursor:
        await_only(_ready())
        return super().executemany(*statement)

    async def _async_soft_close(self) -> None:
        return


class _Connection(sqlite3.Connection):
    turn: asyncio.Lock

    def cursor(self, *_: Any) -> Any:
        return super().cursor(_Cursor)

    def commit(self) -> None:
        if self.in_transaction:
            await_only(_ended(super().commit))


async def _ready() -> None:
    return


async def _locked(begin: Callable[[], object], turn: asyncio.Lock) -> None:
    """Begin once nobody else writes. Raises OperationalError when the lock stays taken."""
    async with turn:
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                begin()
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
            await asyncio.sleep(_LOOK_S)


async def _ended(commit: Callable[[], None]) -> None:
    """Commit in a thread; a caller that is cancelled meanwhile leaves when it is done, not in the middle of it."""
    work = asyncio.ensure_future(asyncio.to_thread(commit))
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    work.result()


registry.register(NAME.replace("+", "."), __name__, InlineDialect.__name__)
