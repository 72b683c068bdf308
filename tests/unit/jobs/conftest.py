"""A real Valkey server for every test of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from tests.unit.gateway.servers import valkey


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with valkey() as running:
        yield running


@pytest.fixture
def url(server: str) -> str:
    with Redis.from_url(server) as client:
        client.flushall()
    return server
