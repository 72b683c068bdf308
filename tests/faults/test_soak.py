"""The soaks' short versions; the long ones are commands: `python -m tests.faults kill --claims 1000`."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from typing import Any, cast

import httpx2
import pytest

from tests.faults import soak_kill, soak_overload, soak_queue
from tests.faults.__main__ import make_key
from tests.faults.clients import Client
from tests.faults.house import House, house


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One house for all: whatever one soak broke, the next finds it whole."""
    folder = tmp_path_factory.mktemp("house")
    with house(
        folder, delay_s=0.05, lock_seconds=2, requeue_seconds=1, max_queue=20, grace_seconds=5, drain_seconds=1
    ) as started:
        yield started


async def test_kill_9_of_workers_and_models_loses_no_claim_and_tells_each_once(here: House) -> None:
    seen: dict[str, Any] = await soak_kill.soak(here, 20, seed=3, every_s=5)
    assert seen["claims"] == 20 and seen["final states"] == {"succeeded": 20}
    assert seen["lost"] == seen["photos without exactly one finding"] == 0
    assert seen["claims told"] == 20 and seen["claims told under more than one event id"] == 0
    assert sum(seen["kills"].values()) > 0


async def test_a_queue_that_is_away_or_wiped_refuses_politely_and_loses_no_accepted_claim(here: House) -> None:
    seen: dict[str, Any] = await soak_queue.soak(here, away_s=2, around_s=1)
    assert seen["final states"] == {"succeeded": seen["accepted"]}
    assert set(seen["answers to submissions while it was away"]) == {503}
    assert set(seen["live while away"]) == {200} and set(seen["ready while away"]) == {503}
    assert seen["refusals without Retry-After"] == seen["connections that broke"] == 0


async def test_an_overload_is_refused_politely_and_what_was_accepted_ends_in_time(
    here: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak_overload, "_WARM_S", 1.0)
    monkeypatch.setattr(soak_overload, "_QUIET_EVERY_S", 0.2)
    keys = [make_key(here, tenant) for tenant in ("noisy", "quiet")]
    # At least 60 claims for a queue of 20: on a busy machine ten times the capacity may fit into it.
    seen = await soak_overload.soak(here, seconds=3, factor=10, deadline_s=60, key=keys[0], other=keys[1], least=20)
    refused = cast(dict[int, int], seen["refused by status"])
    assert refused and set(refused) <= {429, 503} and seen["refusals without Retry-After"] == 0
    assert seen["accepted and late"] == seen["connections that broke"] == 0


async def test_a_stopping_gateway_says_so_answers_all_the_same_ends_waits_and_leaves_with_status_0(here: House) -> None:
    async with httpx2.AsyncClient(base_url=here.url, timeout=30, trust_env=False) as http:
        http.headers["Authorization"] = f"Bearer {make_key(here, 'leaving')}"
        claim_id = await Client(http).send()
        await Client(http).end(claim_id)
        here.running["segmenter"].process.send_signal(signal.SIGSTOP)  # so that the next claim does not end
        stuck = await Client(http).send()
        waiting = asyncio.create_task(http.get(f"/v1/claims/{stuck}", params={"wait": 30}))
        await asyncio.sleep(0.2)
        here.running["gateway"].process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
        while (ready := await http.get("/health/ready")).json().get("state") != "stopping":  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert ready.status_code == 503
        assert (await http.get(f"/v1/claims/{claim_id}")).status_code == 200
        async with asyncio.timeout(25):
            assert (await waiting).json()["status"] in ("queued", "processing")
    assert await asyncio.to_thread(here.running["gateway"].process.wait, 60) == 0


def test_a_stopping_worker_and_model_leave_with_status_0(here: House) -> None:  # the last: it ends them
    for name in ("worker-1", "classifier"):
        assert here.running[name].stop(signal.SIGTERM) == 0, here.running[name].tail()
