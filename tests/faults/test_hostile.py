"""Nothing that is uploaded makes the gateway fail: a hostile corpus, and every route of the schema with wild values."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from benchmarks.hostile import new_batch, send_all
from benchmarks.hostile_corpus import uploads
from tests.e2e.processes import ROOT
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
    # In a process of its own: what it imports while it runs must not be parsed beside what the gateway's thread parses
    # in this one. Python's parser then raises a SystemError now and then ("recursion depth mismatch").
    command = [sys.executable, "-m", "benchmarks.fuzz", url, "--examples", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    told = re.search(r"(\d+) requests, no 500 and no 502", done.stdout)
    assert told and int(told[1]) > 20, done.stdout
