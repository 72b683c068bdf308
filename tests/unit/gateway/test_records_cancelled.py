"""Clients that hang up in a transaction: nothing stays locked, nothing is half-written, no answer is from the past."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Integer, column, select, table, text

from services.gateway.records.database import Database

_LONG_S = 8.0  # below the records' patience with a lock, above any scheduling delay


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'records.db'}")
    async with opened.writing.begin() as connection:
        await connection.execute(text("CREATE TABLE pairs (id INTEGER PRIMARY KEY, twin INTEGER)"))
    yield opened
    await opened.close()


async def write(database: Database, number: int) -> None:
    """Two rows, or none."""
    async with database.writing.begin() as connection:
        for twin in (0, 1):
            await connection.execute(text("INSERT INTO pairs (id, twin) VALUES (:id, :twin)"), _pair(number, twin))


def _pair(number: int, twin: int) -> dict[str, int]:
    return {"id": 2 * number + twin, "twin": twin}


async def glance(database: Database) -> set[int]:
    rows = await database.glance(select(column("id", Integer)).select_from(table("pairs")))
    return {number for (number,) in rows}


async def read(database: Database) -> set[int]:
    async with database.reading.connect() as connection:
        rows = (await connection.execute(text("SELECT id FROM pairs"))).scalars().all()
        await asyncio.sleep(0)
    return set(rows)


async def test_who_is_cancelled_while_waiting_for_the_lock_stops_nobody(database: Database) -> None:
    began = time.monotonic()
    async with database.writing.begin() as holder:
        await holder.execute(text("INSERT INTO pairs (id, twin) VALUES (0, 0)"))
        waiting = [asyncio.create_task(write(database, number)) for number in range(1, 6)]
        await asyncio.sleep(0.1)
        for task in waiting[:4]:
            task.cancel()
        done, _ = await asyncio.wait(waiting[:4], timeout=_LONG_S)
        assert len(done) == 4
    await asyncio.wait_for(waiting[4], _LONG_S)
    assert await read(database) == {0, 10, 11}
    assert time.monotonic() - began < _LONG_S  # the loop itself was never held up


async def test_a_lock_of_another_process_is_waited_for(database: Database, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "records.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    later = threading.Timer(0.5, other.execute, ["ROLLBACK"])
    later.start()
    await asyncio.wait_for(write(database, 1), _LONG_S)
    assert await read(database) == {2, 3}
    later.join()
    other.close()


async def test_after_many_hung_up_every_write_is_whole_and_every_read_is_fresh(database: Database) -> None:
    chance = random.Random(0)
    kept: set[int] = set()
    for wave in range(30):
        numbers = range(wave * 40, wave * 40 + 40)
        tasks = {n: asyncio.create_task(write(database, n)) for n in numbers}
        readers = [asyncio.create_task((read, glance)[n % 2](database)) for n in numbers]
        for _ in range(20):
            await asyncio.sleep(chance.random() * 0.002)
            chance.choice(list(tasks.values())).cancel()
            chance.choice(readers).cancel()
        await asyncio.wait([*tasks.values(), *readers], timeout=_LONG_S)
        assert all(task.done() for task in [*tasks.values(), *readers])
        kept |= {n for n, task in tasks.items() if not task.cancelled() and task.exception() is None}
        there = await asyncio.wait_for(read(database), _LONG_S)
        assert {2 * n + twin for n in kept for twin in (0, 1)} <= there
        assert await glance(database) == there
        assert {i ^ 1 for i in there} == there  # a cancelled write is there with both rows or with none
