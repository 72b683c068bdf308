"""A failed claim is opened again, whatever becomes of the queue meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.jobs.queue import JobQueue
from services.common.serving.errors import NotReady
from services.gateway import claim_job
from services.gateway.runtime import opened
from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.pictures import RED, photo
from tests.unit.gateway.running import gateway, settings


async def test_a_queue_that_is_lost_in_between_does_not_have_it_asked_for_twice(
    tmp_path: Path, redis_url: str, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> None:
        raise NotReady("The queue cannot be reached")

    async with (
        gateway(tmp_path, redis_url, fakes, worker=False) as http,
        opened(settings(tmp_path, redis_url), fakes.clients) as runtime,
    ):
        claim = (await http.post("/v1/claims", files={"photos": photo(RED)})).json()
        await runtime.queue.forget(claim["id"])
        await claim_job.give_up(runtime, claim["id"], "a driver was broken")
        with monkeypatch.context() as patched:
            patched.setattr(JobQueue, "add", lost)
            again = await http.post(f"{claim['links']['self']}/rerun")
        assert (again.status_code, again.json()["status"]) == (202, "queued")
        async with gateway(tmp_path, redis_url, fakes):  # its worker finds it in the records
            done = (await http.get(claim["links"]["self"], params={"wait": 20})).json()
    assert done["status"] == "succeeded"
