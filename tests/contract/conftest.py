"""A gateway with its worker over fake models, and a client of it; a module that needs another one makes its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.running import gateway


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest.fixture
async def http(tmp_path: Path, redis_url: str, fakes: Fakes) -> AsyncIterator[httpx2.AsyncClient]:
    async with gateway(tmp_path, redis_url, fakes) as client:
        yield client
