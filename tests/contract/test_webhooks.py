"""Webhooks: what a receiver may rely on, and what an operator can see of it. A real receiver on a real port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from standardwebhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from services.gateway.records import outbox
from services.gateway.records.clock import now_ms
from services.gateway.records.database import Database
from services.gateway.records.webhooks import WebhookStore
from services.gateway.webhooks import sender
from tests.unit.gateway.fakes import Fakes, FakeSegmenter
from tests.unit.gateway.pictures import RED, photo
from tests.unit.gateway.receiver import Receiver, receiving
from tests.unit.gateway.running import gateway


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of hundredths of seconds instead of hours."""
    monkeypatch.setattr(sender, "_PAUSES_S", (0.01,) * (sender.TRIES - 1))
    monkeypatch.setattr(sender, "_LOOK_S", 0.02)
    monkeypatch.setattr(sender, "_IDLE_S", 0.02)


@asynccontextmanager
async def running(folder: Path, redis_url: str, fakes: Fakes | None = None) -> AsyncIterator[httpx2.AsyncClient]:
    async with gateway(folder, redis_url, fakes or Fakes(), private_receivers="127.0.0.1") as http:
        yield http


async def registered(http: httpx2.AsyncClient, receiver: Receiver, **more: object) -> dict[str, Any]:
    answer = await http.post("/v1/webhooks", json={"url": receiver.url, **more})
    assert answer.status_code == 201, answer.text
    webhook: dict[str, Any] = answer.json()
    return webhook


async def send(http: httpx2.AsyncClient, **fields: str) -> dict[str, Any]:
    files = [("photos", ("a.jpg", photo(RED)))]
    answer = await http.post("/v1/claims", files=files, data=fields, headers={"Prefer": "wait=20"})
    assert answer.status_code == 200, answer.text
    claim: dict[str, Any] = answer.json()
    return claim


async def delivery(http: httpx2.AsyncClient, webhook: dict[str, Any], status: str) -> dict[str, Any]:
    """The webhook's latest delivery, once it has this status."""
    async with asyncio.timeout(60):
        while True:
            found = (await http.get(f"/v1/webhooks/{webhook['id']}/deliveries")).json()["data"]
            if found and found[0]["status"] == status:
                latest: dict[str, Any] = found[0]
                return latest
            await asyncio.sleep(0.02)


async def test_a_finished_claim_is_told_to_its_receiver_signed_and_without_findings(
    tmp_path: Path, redis_url: str
) -> None:
    async with running(tmp_path, redis_url) as http, receiving() as receiver:
        webhook = await registered(http, receiver)
        claim = await send(http, external_ref="K-17")
        (got,) = await receiver.until(1)
        seen = Verifier(webhook["secret"]).verify(got.body, got.headers)
        log = await delivery(http, webhook, "delivered")
    assert seen["type"] == "claim.completed"
    assert seen["data"] == {
        "id": claim["id"], "object": "claim", "status": "succeeded", "external_ref": "K-17", "partial": False,
        "route": claim["summary"]["route"], "links": {"self": f"/v1/claims/{claim['id']}"},
    }  # fmt: skip
    assert log["event_id"] == got.headers["webhook-id"]
    assert [entry["status"] for entry in log["log"]] == [200]


async def test_while_a_secret_is_replaced_both_verify_and_afterwards_only_the_new_one(
    tmp_path: Path, redis_url: str
) -> None:
    async with running(tmp_path, redis_url) as http, receiving() as receiver:
        webhook = await registered(http, receiver)
        where = f"/v1/webhooks/{webhook['id']}"
        new = (await http.post(f"{where}:rotate")).json()["secret"]
        await http.post(f"{where}:test")
        (both,) = await receiver.until(1)
        newest = (await http.post(f"{where}:rotate", json={"overlap_hours": 0.00001})).json()["secret"]
        await asyncio.sleep(0.1)
        await http.post(f"{where}:test")
        alone = (await receiver.until(2))[1]
        assert "secret" not in (await http.get(where)).json()
        refused = await http.post(f"{where}:rotate", json={"overlap_hours": 1000})
    assert refused.status_code == 422 and len({webhook["secret"], new, newest}) == 3
    for secret in (webhook["secret"], new):
        Verifier(secret).verify(both.body, both.headers)
        with pytest.raises(WebhookVerificationError):
            Verifier(secret).verify(alone.body, alone.headers)
    Verifier(newest).verify(alone.body, alone.headers)


async def test_a_body_that_was_changed_on_its_way_does_not_verify(tmp_path: Path, redis_url: str) -> None:
    async with running(tmp_path, redis_url) as http, receiving() as receiver:
        webhook = await registered(http, receiver)
        await http.post(f"/v1/webhooks/{webhook['id']}:test")
        (got,) = await receiver.until(1)
    with pytest.raises(WebhookVerificationError):
        Verifier(webhook["secret"]).verify(got.body.replace("webhook", "Webhook"), got.headers)


async def test_a_receiver_that_fails_is_asked_again_under_the_same_event_id_until_it_takes_it(
    tmp_path: Path, redis_url: str
) -> None:
    answers = iter([500, 503, 302, 200])
    async with running(tmp_path, redis_url) as http, receiving(lambda: next(answers)) as receiver:
        webhook = await registered(http, receiver)
        await send(http)
        got = await receiver.until(4)
        log = await delivery(http, webhook, "delivered")
    assert len({each.headers["webhook-id"] for each in got}) == len({each.body for each in got}) == 1
    assert [entry["status"] for entry in log["log"]] == [500, 503, 302, 200] and log["tries"] == 4
    assert "Redirects are not followed" in log["log"][2]["error"]


async def test_a_receiver_that_never_takes_it_is_given_up_visibly_and_can_be_asked_again(
    tmp_path: Path, redis_url: str
) -> None:
    well = False
    async with running(tmp_path, redis_url) as http, receiving(lambda: 200 if well else 500) as receiver:
        webhook = await registered(http, receiver)
        await send(http)
        failed = await delivery(http, webhook, "failed")
        assert failed["tries"] == len(receiver.got) == 8 and failed["next_try_at"] is None
        listed = await http.get(f"/v1/webhooks/{webhook['id']}/deliveries", params={"status": "failed"})
        assert [each["id"] for each in listed.json()["data"]] == [failed["id"]]
        well = True
        again = await http.post(f"/v1/webhooks/{webhook['id']}/deliveries/{failed['id']}:redeliver")
        assert again.status_code == 202
        delivered = await delivery(http, webhook, "delivered")
        assert delivered["event_id"] == failed["event_id"] == receiver.got[-1].headers["webhook-id"]


async def test_a_receiver_that_is_gone_is_never_asked_again(tmp_path: Path, redis_url: str) -> None:
    async with running(tmp_path, redis_url) as http, receiving(lambda: 410) as receiver:
        webhook = await registered(http, receiver)
        await send(http)
        assert (await delivery(http, webhook, "failed"))["tries"] == 1
        async with asyncio.timeout(60):
            here = f"/v1/webhooks/{webhook['id']}"
            while not (disabled := (await http.get(here)).json()["disabled"]):  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # it is written after the delivery
        await send(http)
        assert "410" in disabled and len(receiver.got) == 1
        refused = await http.post(f"/v1/webhooks/{webhook['id']}:test")
        assert refused.status_code == 422 and "register it again" in refused.json()["detail"]


async def test_only_events_that_were_asked_for_are_sent(tmp_path: Path, redis_url: str) -> None:
    async with running(tmp_path, redis_url) as http, receiving() as receiver, receiving() as other:
        await registered(http, receiver, events=["claim.failed"])
        await registered(http, other, events=["claim.completed"])
        await send(http)
        await other.until(1)
        assert receiver.got == []


async def test_an_expired_claim_is_told_as_such_to_whoever_did_not_ask_for_fewer_events(
    tmp_path: Path, redis_url: str
) -> None:
    fakes = Fakes(segmenter=FakeSegmenter(delay_s=30))
    async with running(tmp_path, redis_url, fakes) as http, receiving() as receiver, receiving() as other:
        await registered(http, receiver)
        await registered(http, other, events=["claim.failed"])
        claim = await send(http, deadline_seconds="1")
        (got,) = await receiver.until(1)
        assert other.got == []
    told = json.loads(got.body)
    assert (told["type"], told["data"]["id"], told["data"]["status"]) == ("claim.expired", claim["id"], "expired")


async def test_a_secret_is_shown_once(tmp_path: Path, redis_url: str) -> None:
    async with running(tmp_path, redis_url) as http, receiving() as receiver:
        webhook = await registered(http, receiver)
        assert webhook["secret"].startswith("whsec_")
        for path in ("/v1/webhooks", f"/v1/webhooks/{webhook['id']}"):
            assert webhook["secret"] not in (await http.get(path)).text


async def test_a_deleted_webhook_gets_nothing_more(tmp_path: Path, redis_url: str) -> None:
    async with running(tmp_path, redis_url) as http, receiving() as receiver:
        webhook = await registered(http, receiver)
        assert (await http.delete(f"/v1/webhooks/{webhook['id']}")).status_code == 204
        await send(http)
        assert (await http.get("/v1/webhooks")).json()["data"] == [] and receiver.got == []
        assert (await http.delete(f"/v1/webhooks/{webhook['id']}")).status_code == 404


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1/", "https://localhost/", "https://[::1]/", "nonsense", "https://u:p@x.org/"]
)
async def test_a_receiver_inside_is_refused_when_it_is_registered(tmp_path: Path, redis_url: str, url: str) -> None:
    async with gateway(tmp_path, redis_url, Fakes(), worker=False) as http:
        answer = await http.post("/v1/webhooks", json={"url": url})
    assert answer.status_code == 422 and answer.json()["type"].endswith("url-not-allowed")


async def test_what_was_sent_is_listed_page_by_page(tmp_path: Path, redis_url: str) -> None:
    async with running(tmp_path, redis_url) as http, receiving() as receiver:
        webhook = await registered(http, receiver)
        sent = [(await http.post(f"/v1/webhooks/{webhook['id']}:test")).json()["id"] for _ in range(5)]
        seen: list[str] = []
        page: dict[str, str] = {}
        while True:
            answer = (
                await http.get(f"/v1/webhooks/{webhook['id']}/deliveries", params={"page_size": 2, **page})
            ).json()
            seen += [each["id"] for each in answer["data"]]
            if answer["next_page_token"] is None:
                break
            page = {"page_token": answer["next_page_token"]}
        assert seen == sorted(sent, reverse=True)
        nonsense = await http.get(f"/v1/webhooks/{webhook['id']}/deliveries", params={"page_token": "x"})
        assert nonsense.status_code == 422


async def test_a_delivery_is_sent_again_after_the_process_that_sent_it_died_and_by_one_process_only(
    tmp_path: Path,
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'records.db'}")
    await database.upgrade()
    store = WebhookStore(database)
    webhook = await store.register("t", "http://127.0.0.1:9/", "whsec_eA==", ["claim.completed"], limit=5)
    assert webhook is not None
    await store.test(webhook.id)
    (first,) = await store.take(limit=9, each=9, busy=(), lease_ms=0)  # its process dies here
    await asyncio.sleep(0.01)
    (second,) = await store.take(limit=9, each=9, busy=(), lease_ms=60_000)
    assert await store.take(limit=9, each=9, busy=(), lease_ms=60_000) == []
    assert second.event_id == first.event_id and second.tries == 2
    await store.tried(first, {}, status="failed", due_at=now_ms())  # it was only asleep: refused
    assert (await store.deliveries(webhook.id, limit=1))[0].status == "pending"
    await database.close()


async def test_a_receiver_that_hangs_does_not_hold_up_the_others(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'records.db'}")
    await database.upgrade()
    store = WebhookStore(database)
    slow, quick = [await store.register("t", f"http://127.0.0.1/{n}", "whsec_eA==", [], limit=5) for n in range(2)]
    assert slow is not None and quick is not None
    for _ in range(20):
        await store.test(slow.id)
    await store.test(quick.id)
    taken = await store.take(limit=16, each=2, busy=(), lease_ms=60_000)
    assert sorted(due.webhook_id for due in taken) == sorted([slow.id, slow.id, quick.id])
    assert await store.take(limit=16, each=2, busy={slow.id}, lease_ms=60_000) == []
    await database.close()


def test_pauses_grow_over_a_day_and_are_never_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    total = sum(sender.pause_ms(tries) for tries in range(1, sender.TRIES)) / 3_600_000
    assert 24 * 0.8 <= total <= 25 * 1.2
    assert len({sender.pause_ms(7) for _ in range(20)}) > 1


def test_a_body_is_the_form_that_standard_webhooks_recommends() -> None:
    (row,) = outbox.rows(["whk_1"], "webhook.test", {"id": "whk_1"})
    assert set(json.loads(row["body"])) == {"type", "timestamp", "data"}
