"""Nothing that is uploaded makes the gateway fail: a hostile corpus, and every route of the schema with wild values."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from benchmarks.fuzz import fuzz
from benchmarks.hostile import new_batch, send_all
from benchmarks.hostile_corpus import uploads
from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.servers import valkey
from tests.unit.gateway.serving import served


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    with valkey() as redis_url, served(folder, redis_url, Fakes()) as address:
        yield address


def test_no_hostile_upload_is_answered_with_500_or_502_or_not_at_all(url: str) -> None:
    report = asyncio.run(send_all(url, uploads(7, 200, new_batch(url))))
    assert report.ok, report.broken
    assert report.statuses.total() == 200
    assert {400, 413, 415, 422} <= set(report.statuses)
    assert httpx2.get(f"{url}/health/live", timeout=60).status_code == 200


def test_no_operation_of_the_schema_answers_500_or_502_whatever_it_is_sent(url: str) -> None:
    statuses = fuzz(url, examples=1)
    assert statuses.total() > 20
