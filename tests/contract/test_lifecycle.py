"""What becomes of a claim: more photos, cancelled, erased, proved, carried out once; and only its own tenant knows."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
import rfc8785

from services.gateway import photos
from services.gateway.records.usage import UsageStore
from tests.contract.keyring import bearing, key
from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.pictures import RED, photo
from tests.unit.gateway.running import gateway

WAIT = {"Prefer": "wait=20"}
SAME = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}


def one(data: bytes | None = None) -> list[tuple[str, tuple[str, bytes]]]:
    return [("photos", ("a.jpg", photo(RED) if data is None else data))]


async def sent(http: httpx2.AsyncClient, **more: Any) -> dict[str, Any]:
    answer = await http.post("/v1/claims", **{"files": one(), **more})
    assert answer.is_success, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def worked_on(fakes: Fakes) -> None:
    """Until a worker has asked the segmenter."""
    async with asyncio.timeout(60):
        while not fakes.segmenter.calls:  # noqa: ASYNC110 - nothing tells it
            await asyncio.sleep(0.01)


def refused(answer: httpx2.Response, status: int, slug: str) -> None:
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:claimsight:problem:{slug}"), answer.text


async def test_a_claim_is_not_finished_without_the_photos_that_were_added(
    http: httpx2.AsyncClient, fakes: Fakes
) -> None:
    go_on = fakes.segmenter.hold()
    claim = await sent(http)
    added = await http.post(f"{claim['links']['self']}/photos", files=one(), data={"view": "closeup"})
    assert added.status_code == 202 and added.json()["progress"]["total"] == 2
    go_on.set()
    done = (await http.get(claim["links"]["self"], params={"wait": 20})).json()
    assert [each["status"] for each in done["photos"]] == ["succeeded"] * 2
    assert done["photos"][1]["view"] == "closeup" and done["summary"]["findings"] == 2
    refused(await http.post(f"{claim['links']['self']}/photos", files=one()), 409, "already-finished")


async def test_a_claim_that_is_not_concluded_by_its_deadline_expires_and_says_so(
    http: httpx2.AsyncClient, fakes: Fakes
) -> None:
    fakes.segmenter.delay_s = 30
    claim = await sent(http, data={"deadline_seconds": "1"})
    assert claim["expires_at"] > claim["created_at"]
    done = (await http.get(claim["links"]["self"], params={"wait": 20})).json()
    assert (done["status"], done["error"]["type"]) == ("expired", "urn:claimsight:problem:deadline-exceeded")
    assert [each["status"] for each in done["photos"]] == ["failed"] and "evidence" in done["links"]
    refused(await http.post(f"{claim['links']['self']}/cancel"), 409, "already-finished")
    listed = (await http.get("/v1/claims", params={"status": "expired"})).json()["data"]
    assert [each["id"] for each in listed] == [claim["id"]]


async def test_a_claim_that_would_hardly_end_in_time_is_refused_at_once_and_told_when_to_come_back(
    tmp_path: Path, redis_url: str, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(*_: object) -> float:
        return 0.5

    monkeypatch.setattr(UsageStore, "throughput", slow)
    async with gateway(tmp_path, redis_url, fakes, worker=False) as http:
        for _ in range(4):
            await sent(http)
        late = await http.post("/v1/claims", files=one(), data={"deadline_seconds": "5"})
        refused(late, 503, "queue-full")
        assert int(late.headers["Retry-After"]) >= 1
        assert (await http.post("/v1/claims", files=one(), data={"deadline_seconds": "60"})).status_code == 202


@pytest.mark.parametrize("deadline", ["0", "-1", "1.5", "soon", "9999999999"])
async def test_a_deadline_that_is_none_is_refused(http: httpx2.AsyncClient, deadline: str) -> None:
    refused(await http.post("/v1/claims", files=one(), data={"deadline_seconds": deadline}), 422, "invalid-request")


async def test_a_cancelled_claim_stays_so_and_a_finished_one_cannot_be(http: httpx2.AsyncClient, fakes: Fakes) -> None:
    go_on = fakes.segmenter.hold()
    claim = await sent(http)
    await worked_on(fakes)
    for _ in range(2):
        answer = await http.post(claim["links"]["cancel"])
        assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
        assert answer.json()["photos"][0]["status"] == "canceled"
    go_on.set()
    await asyncio.sleep(0.3)  # in which the worker would write what it found
    assert (await http.get(claim["links"]["self"])).json()["status"] == "canceled"
    finished = await sent(http, headers=WAIT)
    refused(await http.post(f"{finished['links']['self']}/cancel"), 409, "already-finished")


async def test_erasing_leaves_a_receipt_and_nothing_else(http: httpx2.AsyncClient, tmp_path: Path) -> None:
    claim = await sent(http, headers=WAIT)
    seen = claim["photos"][0]
    await http.get(seen["links"]["overlay"])
    receipt = (await http.delete(claim["links"]["self"])).json()
    assert receipt["status"] == "done"
    assert receipt["erased"] == {"photos": 1, "findings": 1, "decisions": 0, "files": 2}
    assert (await http.delete(claim["links"]["self"])).json() == receipt
    for where in (claim["links"]["self"], seen["links"]["overlay"], claim["links"]["evidence"]):
        refused(await http.get(where), 404, "not-found")
    assert [path for path in (tmp_path / "store").rglob("*") if seen["id"] in path.name] == []
    assert (await http.get("/v1/claims")).json()["data"] == []


async def test_a_claim_is_erased_under_the_hands_of_its_worker(http: httpx2.AsyncClient, fakes: Fakes) -> None:
    go_on = fakes.segmenter.hold()
    claim = await sent(http)
    await worked_on(fakes)
    assert (await http.delete(claim["links"]["self"])).json()["status"] == "done"
    go_on.set()
    await asyncio.sleep(0.3)  # in which the worker would write what it found
    refused(await http.get(claim["links"]["self"]), 404, "not-found")
    assert (await sent(http, headers=WAIT))["status"] == "succeeded"


async def test_an_erasure_that_the_photo_store_held_up_is_completed_later(
    tmp_path: Path, redis_url: str, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(tmp_path, redis_url, fakes, sweep_seconds=0.1) as http:
        claim = await sent(http, headers=WAIT)

        async def away(self: photos.PhotoStore, photo_id: str) -> int:
            raise photos._unreachable()

        with monkeypatch.context() as broken:
            broken.setattr(photos.PhotoStore, "erase", away)
            assert (await http.delete(claim["links"]["self"])).json()["status"] == "pending"
            refused(await http.get(claim["links"]["self"]), 404, "not-found")
        async with asyncio.timeout(60):
            while (await http.delete(claim["links"]["self"])).json()["status"] == "pending":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert [path for path in (tmp_path / "store").rglob("pho_*") if path.is_file()] == []


async def test_claims_are_erased_when_their_time_is_over(tmp_path: Path, redis_url: str, fakes: Fakes) -> None:
    async with gateway(tmp_path, redis_url, fakes) as http:
        claim = await sent(http, headers=WAIT)
    async with gateway(tmp_path, redis_url, fakes, sweep_seconds=0.1, retention_days=1e-6) as http:
        async with asyncio.timeout(60):
            while (await http.get(claim["links"]["self"])).status_code != 404:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            while [path for path in (tmp_path / "store").rglob("pho_*") if path.is_file()]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # they go after it is out of sight


async def test_an_erasure_that_fails_in_an_unforeseen_way_holds_up_no_other(
    tmp_path: Path, redis_url: str, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(tmp_path, redis_url, fakes) as http:
        made = [await sent(http, headers=WAIT) for _ in range(2)]
    erase, odd = photos.PhotoStore.erase, made[0]["photos"][0]["id"]

    async def odd_one(self: photos.PhotoStore, photo_id: str) -> int:
        if photo_id == odd:
            raise RuntimeError("nobody foresaw this")
        return await erase(self, photo_id)

    monkeypatch.setattr(photos.PhotoStore, "erase", odd_one)
    async with gateway(tmp_path, redis_url, fakes, sweep_seconds=0.1, retention_days=1e-6) as http:
        for claim in made:
            async with asyncio.timeout(60):
                while (await http.get(claim["links"]["self"])).status_code != 404:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        assert (await http.delete(made[0]["links"]["self"])).json()["status"] == "pending"
        async with asyncio.timeout(60):
            while (await http.delete(made[1]["links"]["self"])).json()["status"] == "pending":  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_evidence_is_canonical_and_its_hash_can_be_checked(http: httpx2.AsyncClient) -> None:
    data = photo(RED)
    claim = await sent(http, files=one(data), headers=WAIT, data={"vehicle": '{"make": "VW", "year": 2019}'})
    assert claim["vehicle"]["make"] == "VW"
    first = await http.get(claim["links"]["evidence"])
    body = first.json()
    assert body["sha256"] == hashlib.sha256(rfc8785.dumps(body["evidence"])).hexdigest()
    seen = body["evidence"]["photos"][0]
    assert seen["sha256"] == hashlib.sha256(data).hexdigest()
    assert seen["basis"]["policy"]["tau"] == 0.6 and body["evidence"]["models"]["segmenter"]["sha256"]
    assert (await http.get(claim["links"]["evidence"])).content == first.content


async def test_there_is_no_evidence_of_an_unfinished_claim(http: httpx2.AsyncClient, fakes: Fakes) -> None:
    go_on = fakes.segmenter.hold()
    claim = await sent(http)
    refused(await http.get(f"{claim['links']['self']}/evidence"), 409, "not-finished")
    go_on.set()


@pytest.mark.parametrize(
    "fields",
    [
        {"view": "sideways"},
        {"view": ["front", "left"]},
        {"vehicle": "[]"},
        {"vehicle": '{"vin": "I"}'},
        {"vehicle": '{"year": 1200}'},
        {"vehicle": '{"wheels": 4}'},
    ],
)
async def test_what_is_said_of_photos_and_vehicles_is_checked(http: httpx2.AsyncClient, fields: dict[str, Any]) -> None:
    refused(await http.post("/v1/claims", files=one(), data=fields), 422, "invalid-request")


async def test_the_same_request_makes_one_claim_however_often_it_is_sent(http: httpx2.AsyncClient) -> None:
    data = photo(RED)
    first, again = [await http.post("/v1/claims", files=one(data), headers=SAME) for _ in range(2)]
    assert first.json()["id"] == again.json()["id"]
    assert "Idempotency-Replayed" not in first.headers and again.headers["Idempotency-Replayed"] == "true"
    other = await http.post("/v1/claims", files=one(data), headers=SAME, data={"external_ref": "X"})
    refused(other, 422, "idempotency-mismatch")
    assert len((await http.get("/v1/claims")).json()["data"]) == 1


async def test_many_at_once_make_one_claim(http: httpx2.AsyncClient) -> None:
    data = photo(RED)
    answers = await asyncio.gather(*(http.post("/v1/claims", files=one(data), headers=SAME) for _ in range(8)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1
    for answer in answers:
        if answer.status_code == 409:
            refused(answer, 409, "idempotency-conflict")
    assert len((await http.get("/v1/claims")).json()["data"]) == 1


async def test_a_request_that_failed_leaves_its_key_free(http: httpx2.AsyncClient) -> None:
    assert (await http.post("/v1/claims", files=one(b"no photo"), headers=SAME)).status_code == 415
    assert (await http.post("/v1/claims", files=one(b"no photo"), headers=SAME)).status_code == 415
    refused(await http.post("/v1/claims", files=one(), headers={"Idempotency-Key": "a b"}), 400, "invalid-request")


async def test_the_same_photo_is_not_assessed_twice_and_says_so(tmp_path: Path, redis_url: str, fakes: Fakes) -> None:
    data = photo(RED)
    async with gateway(tmp_path, redis_url, fakes, reuse=True) as http:
        first, again = [(await sent(http, files=one(data), headers=WAIT))["photos"][0] for _ in range(2)]
        assert (first["cached"], again["cached"], fakes.segmenter.calls) == (False, True, 1)
        (mine,), (copied,) = first["findings"], again["findings"]
        assert mine.pop("id") != copied.pop("id") and mine == copied
    async with gateway(tmp_path, redis_url, fakes, reuse=True, max_findings=3) as http:
        assert not (await sent(http, files=one(data), headers=WAIT))["photos"][0]["cached"]


async def test_a_tenant_reuses_nothing_of_anothers_and_shares_no_idempotency_key(
    tmp_path: Path, redis_url: str, fakes: Fakes
) -> None:
    data = photo(RED)
    mine, theirs = [bearing(await key(tmp_path, tenant)) for tenant in ("acme", "other")]
    async with gateway(tmp_path, redis_url, fakes, reuse=True) as http:
        first = await sent(http, files=one(data), headers=mine | WAIT | SAME)
        second = await sent(http, files=one(data), headers=theirs | WAIT | SAME)
        assert first["id"] != second["id"] and not second["photos"][0]["cached"]
        assert fakes.segmenter.calls == 2


async def test_no_route_tells_a_tenant_anything_of_anothers_claim(tmp_path: Path, redis_url: str, fakes: Fakes) -> None:
    mine, theirs = [bearing(await key(tmp_path, tenant)) for tenant in ("acme", "other")]
    async with gateway(tmp_path, redis_url, fakes) as http:
        claim = await sent(http, headers=mine | WAIT, data={"external_ref": "SECRET-REF"})
        before = (await http.get(claim["links"]["self"], headers=mine)).json()
        seen = claim["photos"][0]
        made = (await http.post("/v1/webhooks", headers=mine, json={"url": "https://example.org/x"})).json()
        batch = (await http.post("/v1/batches", headers=mine, json={})).json()
        held = (await http.get("/v1/keys", headers=mine)).json()["data"][0]
        known = {
            "claim_id": claim["id"],
            "photo_id": seen["id"],
            "finding_id": seen["findings"][0]["id"],
            "key_id": held["id"],
            "batch_id": batch.get("id", "x"),
            "webhook_id": made.get("id", "x"),
        }
        secrets = [value for value in known.values() if value != "x"] + ["SECRET-REF", seen["sha256"]]
        tried = 0
        for path, methods in (await http.get("/openapi.json")).json()["paths"].items():
            where = path
            for name, value in known.items():
                where = where.replace(f"{{{name}}}", value)
            where = where.replace("{delivery_id}", "x").replace("{", "").replace("}", "")
            for method in methods:
                answer = await http.request(method, where, headers=theirs)
                shown = answer.text.replace(where, "")
                assert not [secret for secret in secrets if secret in shown], f"{method} {path}"
                if "{claim_id}" in path or "{photo_id}" in path or "{key_id}" in path:
                    refused(answer, 404, "not-found")
                    tried += 1
        assert tried >= 9
        assert (await http.get(claim["links"]["self"], headers=mine)).json() == before
        assert json.dumps(before)
