"""What serves is tested without torch; the tests of export/ are marked `train` and left out where torch is missing."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from redis import Redis

from tests.unit.gateway.servers import valkey

_EXPORT = Path(__file__).parent / "export"

# The same examples in every run, so that what fails here fails everywhere, and no clock: a busy machine is no broken
# one. `--hypothesis-profile=default` looks for new examples.
settings.register_profile(
    "same", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return True if collection_path == _EXPORT and find_spec("torch") is None else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _EXPORT in item.path.parents:
            item.add_marker(pytest.mark.train)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a real queue server that the tests of one module share."""
    with valkey() as url:
        yield url


@pytest.fixture
def redis_url(server: str) -> str:
    """That server, emptied for one test."""
    with Redis.from_url(server) as redis:
        redis.flushall()
    return server
