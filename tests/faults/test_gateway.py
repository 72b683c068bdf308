"""Accepted claims survive killed workers and a queue that forgets everything. Real processes, real kills."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from redis import Redis

from services.common.serving.schemas import Segmentation
from services.gateway import claim_job
from services.gateway.assessment.clients import Clients
from services.gateway.records.attempts import Outcome
from services.gateway.runtime import Runtime, opened
from tests.unit.gateway import examples
from tests.unit.gateway.fakes import Fakes, FakeSegmenter
from tests.unit.gateway.pictures import RED, photo
from tests.unit.gateway.running import gateway, settings
from tests.unit.gateway.servers import valkey


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with valkey() as url:
        yield url


@pytest.fixture
def redis(server: str) -> Iterator[Redis]:
    with Redis.from_url(server) as client:
        client.flushall()
        yield client


@asynccontextmanager
async def worker(folder: Path, redis_url: str, delay_s: float = 0, quick: int = 0) -> AsyncIterator[Process]:
    command = [sys.executable, "-m", "tests.faults.gateway_worker", str(folder), redis_url, str(delay_s), str(quick)]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def says(process: Process, word: str) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(120):  # of which a free machine needs two
        while (line := await process.stdout.readline()).strip() != word.encode():
            assert line, "the worker ended"


async def send(http: httpx2.AsyncClient, photos: int = 1) -> str:
    files = [("photos", ("a.jpg", photo(RED))) for _ in range(photos)]
    answer = await http.post("/v1/claims", files=files)
    assert answer.status_code == 202
    return str(answer.headers["Location"])


async def end(http: httpx2.AsyncClient, where: str) -> dict[str, Any]:
    async with asyncio.timeout(120):
        while True:
            claim: dict[str, Any] = (await http.get(where, params={"wait": 25})).json()
            if claim["status"] not in ("queued", "processing"):
                return claim


async def test_a_killed_workers_claim_is_finished_by_another(tmp_path: Path, server: str, redis: Redis) -> None:
    async with (
        gateway(tmp_path, server, Fakes(), worker=False) as http,
        worker(tmp_path, server, delay_s=3600) as doomed,
        worker(tmp_path, server) as other,
    ):
        other.send_signal(signal.SIGSTOP)  # so that the doomed one takes the claim
        where = await send(http)
        await says(doomed, "working")
        doomed.kill()
        other.send_signal(signal.SIGCONT)
        claim = await end(http, where)
    assert claim["status"] == "succeeded" and claim["photos"][0]["findings"]


async def test_a_worker_that_was_only_asleep_cannot_overwrite_the_one_that_took_over(
    tmp_path: Path, server: str, redis: Redis
) -> None:
    async with gateway(tmp_path, server, Fakes(), worker=False) as http, worker(tmp_path, server, delay_s=1) as sleepy:
        where = await send(http)
        await says(sleepy, "working")
        sleepy.send_signal(signal.SIGSTOP)
        async with worker(tmp_path, server):
            claim = await end(http, where)
            assert claim["status"] == "succeeded"
        sleepy.send_signal(signal.SIGCONT)
        await asyncio.sleep(2)
        assert sleepy.returncode is None
        assert await end(http, where) == claim


async def test_a_claim_finishes_although_the_queue_lost_everything(tmp_path: Path, server: str, redis: Redis) -> None:
    async with gateway(tmp_path, server, Fakes(), worker=False) as http:
        waiting = [await send(http) for _ in range(2)]
        redis.flushall()
        async with worker(tmp_path, server):
            claims = [await end(http, where) for where in waiting]
    assert [claim["status"] for claim in claims] == ["succeeded", "succeeded"]


async def test_a_claim_finishes_although_the_queue_lost_everything_in_the_middle_of_it(
    tmp_path: Path, server: str, redis: Redis
) -> None:
    async with gateway(tmp_path, server, Fakes(), worker=False) as http, worker(tmp_path, server, delay_s=0.5) as busy:
        where = await send(http, photos=6)
        await says(busy, "working")
        redis.flushall()
        claim = await end(http, where)
    assert claim["status"] == "succeeded" and claim["progress"] == {"done": 6, "total": 6}


async def test_photos_that_were_done_before_the_kill_are_not_done_again(
    tmp_path: Path, server: str, redis: Redis
) -> None:
    async with gateway(tmp_path, server, Fakes(), worker=False) as http:
        async with worker(tmp_path, server, delay_s=3600, quick=3) as doomed:
            where = await send(http, photos=8)
            await says(doomed, "working")
            tag, done_so_far = '"none yet"', 0
            async with asyncio.timeout(120):
                while not done_so_far:
                    answer = await http.get(where, params={"wait": 5}, headers={"If-None-Match": tag})
                    tag, done_so_far = answer.headers["ETag"], answer.json()["progress"]["done"]
            doomed.kill()
        half = (await http.get(where)).json()
        async with worker(tmp_path, server):
            claim = await end(http, where)
    done = [photo for photo in half["photos"] if photo["status"] == "succeeded"]
    assert 0 < len(done) < 8
    assert [photo for photo in claim["photos"] if photo["id"] in {each["id"] for each in done}] == done


async def test_a_claim_that_kills_its_workers_is_given_up_and_says_so(
    tmp_path: Path, server: str, redis: Redis
) -> None:
    async with gateway(tmp_path, server, Fakes(), worker=False) as http:
        where = await send(http)
        for _ in range(3):
            async with worker(tmp_path, server, delay_s=3600) as doomed:
                await says(doomed, "working")
                doomed.kill()
        async with worker(tmp_path, server):
            claim = await end(http, where)
            assert claim["status"] == "failed" and "several tries" in claim["error"]["detail"]
            again = await http.post(f"{where}/rerun")  # its dead job does not stand in the way of another try
            assert again.status_code == 202 and (await end(http, where))["status"] == "succeeded"


class _Broken(Fakes):
    """Fails in a way nobody foresaw."""

    @property
    def clients(self) -> Clients:
        return Clients(None, self.classifier, self.retrieval)  # type: ignore[arg-type]


async def test_an_unforeseen_failure_fails_the_claim_after_its_tries_and_tells_nothing_internal(
    tmp_path: Path, server: str, redis: Redis
) -> None:
    async with gateway(tmp_path, server, _Broken()) as http, _opened(tmp_path, server) as runtime:
        where = await send(http)
        await asyncio.sleep(0.5)
        claim_id = where.rpartition("/")[2]
        await claim_job.give_up(runtime, claim_id, "the test does not wait for five tries")
        claim = await end(http, where)
    assert claim["status"] == "failed" and "NoneType" not in str(claim)


class _Forgetful(FakeSegmenter):
    """Has a bug of its own kind."""

    async def segment(self, pixels: NDArray[np.uint8]) -> Segmentation:
        raise KeyError("a name that is in no table")


async def test_a_bug_is_tried_again_and_never_taken_for_a_photo_that_is_gone(
    tmp_path: Path, server: str, redis: Redis
) -> None:
    fakes = Fakes(segmenter=_Forgetful())
    async with gateway(tmp_path, server, fakes, worker=False) as http, _opened(tmp_path, server, fakes) as runtime:
        where = await send(http)
        with pytest.raises(KeyError):
            await claim_job.work(runtime, where.rpartition("/")[2])
        assert (await http.get(where)).json()["photos"][0]["status"] == "queued"


async def test_what_was_done_before_a_claim_was_given_up_is_kept(tmp_path: Path, server: str, redis: Redis) -> None:
    async with gateway(tmp_path, server, Fakes(), worker=False) as http, _opened(tmp_path, server) as runtime:
        where = await send(http, photos=2)
        claim_id, first = where.rpartition("/")[2], (await http.get(where)).json()["photos"][0]["id"]
        attempt = await runtime.attempts.begin(claim_id)
        await runtime.attempts.write_photo(claim_id, attempt, first, Outcome(findings=(examples.finding(),)))
        await claim_job.give_up(runtime, claim_id, "the second photo kills every worker")
        claim = await end(http, where)
    assert (claim["status"], claim["partial"], claim["summary"]["findings"]) == ("succeeded", True, 1)
    assert [photo["status"] for photo in claim["photos"]] == ["succeeded", "failed"]
    assert "several tries" in claim["photos"][1]["error"]["detail"]


async def test_a_claim_whose_results_cannot_be_used_still_ends(
    tmp_path: Path, server: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unusable(_: object) -> None:
        raise ValueError("an unforeseen result")

    monkeypatch.setattr(claim_job, "summarise", unusable)
    async with gateway(tmp_path, server, Fakes(), worker=False) as http, _opened(tmp_path, server) as runtime:
        where = await send(http)
        claim_id, first = where.rpartition("/")[2], (await http.get(where)).json()["photos"][0]["id"]
        attempt = await runtime.attempts.begin(claim_id)
        await runtime.attempts.write_photo(claim_id, attempt, first, Outcome())
        await claim_job.give_up(runtime, claim_id, "its job failed for good")
        claim = await end(http, where)
    assert claim["status"] == "failed" and "unforeseen" not in str(claim)


@asynccontextmanager
async def _opened(folder: Path, redis_url: str, fakes: Fakes | None = None) -> AsyncIterator[Runtime]:
    async with opened(settings(folder, redis_url), (fakes or Fakes()).clients) as runtime:
        yield runtime


async def test_a_failed_claim_is_worked_on_again_under_its_own_id_once_what_failed_is_repaired(
    tmp_path: Path, server: str, redis: Redis
) -> None:
    fakes = Fakes()
    async with gateway(tmp_path, server, fakes, worker=False) as http, _opened(tmp_path, server, fakes) as runtime:
        where = await send(http, photos=2)
        claim_id = where.rpartition("/")[2]
        assert (await http.post(f"{where}/rerun")).status_code == 409  # it has not failed
        await claim_job.give_up(runtime, claim_id, "a driver was broken")
        assert [each["id"] for each in (await http.get("/v1/claims?status=failed")).json()["data"]] == [claim_id]
        again = await http.post(f"{where}/rerun")
        assert again.status_code == 202 and again.json()["status"] == "queued" and again.json()["error"] is None
        async with gateway(tmp_path, server, fakes):  # with a worker
            claim = await end(http, where)
    assert claim["status"] == "succeeded" and all(photo["findings"] for photo in claim["photos"])
