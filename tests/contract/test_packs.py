"""Packs: activated and rolled back without losing a request, tried beside what answers, never mixed into a claim."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image

import services.classifier.app
import services.retrieval.app
import services.segmenter.app
from services.common.serving.clients import HttpClassifier, HttpRetrieval, HttpSegmenter, in_process
from services.gateway.app import build_app
from services.gateway.assessment.clients import Clients
from services.gateway.packs.trial import chosen
from services.gateway.records.database import Database
from services.gateway.records.packs import PackStore, Rule
from tests.contract.keyring import bearing, key
from tests.packs import COLOURS, VOCABULARY, painted_photo, write_segment_pack, write_test_packs
from tests.unit.gateway.running import client, settings


@asynccontextmanager
async def house(folder: Path, redis_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    """The whole walk in one process on the test packs; of the segmenter's there is a second version that lists less."""
    packs = write_test_packs(folder / "models")
    write_segment_pack(folder / "models" / "albert" / "2", version="2", thresholds={"damage": 1.01})
    other = VOCABULARY.model_copy(update={"parts": VOCABULARY.parts[:1]})
    supported = {"classes": ["dent"]}
    write_segment_pack(
        folder / "models" / "albert" / "3", version="3", vocabulary=other, names_hash="", supported=supported
    )
    quick = {"provider": "cpu", "threads": 1, "max_batch": 1}
    rooms = [
        services.segmenter.app.build_app(services.segmenter.settings.Settings(pack=packs["segment"], **quick)),  # type: ignore[arg-type]
        services.classifier.app.build_app(services.classifier.settings.Settings(pack=packs["classify"], **quick)),  # type: ignore[arg-type]
        services.retrieval.app.build_app(
            services.retrieval.settings.Settings(pack=packs["memory"], data=folder / "memory")
        ),
    ]
    async with AsyncExitStack() as stack:
        for app in rooms:
            await stack.enter_async_context(app.router.lifespan_context(app))
        http = [await stack.enter_async_context(in_process(app)) for app in rooms]
        clients = Clients(HttpSegmenter(http[0]), HttpClassifier(http[1]), HttpRetrieval(http[2]))
        gateway = build_app(settings(folder / "data", redis_url), clients, worker=True)
        await stack.enter_async_context(gateway.router.lifespan_context(gateway))
        door = await stack.enter_async_context(client(gateway))
        async with asyncio.timeout(60):
            while (await door.get("/health/ready")).status_code != 200:  # noqa: ASYNC110 - readiness is asked
                await asyncio.sleep(0.02)
        yield door


def photo() -> bytes:
    out = io.BytesIO()
    Image.fromarray(painted_photo((COLOURS["dent"], (0.3, 0.3, 0.5, 0.5)), height=480, width=640)).save(out, "JPEG")
    return out.getvalue()


async def claim(http: httpx2.AsyncClient) -> dict[str, Any]:
    files = [("photos", ("a.jpg", photo(), "image/jpeg"))]
    answer = await http.post("/v1/claims", files=files, headers={"Prefer": "wait=60"})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert body["status"] == "succeeded", body
    return body


async def done(http: httpx2.AsyncClient, method: str, path: str, **body: object) -> dict[str, Any]:
    """The answer once it is no longer `loading`, as a client that obeys Retry-After gets it."""
    async with asyncio.timeout(60):
        while True:
            answer = await http.request(method, path, json=body or None)
            if answer.status_code != 503:
                assert answer.status_code == 200, answer.text
                found: dict[str, Any] = answer.json()
                return found
            await asyncio.sleep(0.02)


async def test_a_switch_answers_every_claim_and_rolling_back_undoes_it(tmp_path: Path, redis_url: str) -> None:
    async with house(tmp_path, redis_url) as http:
        before = await claim(http)
        assert before["models"]["segmenter"]["version"] == "1" and before["photos"][0]["findings"]
        shown = (await http.get("/v1/packs")).json()["segmenter"]
        assert (shown["active"], [pack["version"] for pack in shown["versions"]]) == ("1", ["1", "2", "3"])
        nothing = await http.post("/v1/packs/segmenter/rollback")
        assert nothing.status_code == 409 and nothing.json()["type"].endswith(":pack-refused")

        flood = [asyncio.create_task(claim(http)) for _ in range(6)]
        now = await done(http, "POST", "/v1/packs/segmenter/activate", version="2")
        assert (now["active"], now["previous"]) == ("2", "1")
        flood += [asyncio.create_task(claim(http)) for _ in range(3)]
        ended = await asyncio.gather(*flood)
        told = {one["models"]["segmenter"]["version"]: bool(one["photos"][0]["findings"]) for one in ended}
        assert told["2"] is False and told.get("1", True) is True  # whole by one pack or the other
        assert {one["models"]["segmenter"]["version"] for one in ended[-3:]} == {"2"}
        assert (await http.get("/v1/models")).json()["segmenter"]["model"]["version"] == "2"

        now = await done(http, "POST", "/v1/packs/segmenter/rollback")
        assert (now["active"], now["previous"]) == ("1", "2")
        after = await claim(http)
        assert after["models"]["segmenter"]["version"] == "1" and after["photos"][0]["findings"]


async def test_a_candidate_is_recorded_beside_the_claim_compared_and_never_mixed_in(
    tmp_path: Path, redis_url: str
) -> None:
    async with house(tmp_path, redis_url) as http:
        now = await done(http, "PUT", "/v1/packs/segmenter/canary", version="2", share=1.0)
        assert (now["candidate"], now["share"], now["active"]) == ("2", 1.0, "1")
        claims = [await claim(http) for _ in range(3)]
        assert all(one["models"]["segmenter"]["version"] == "1" and one["photos"][0]["findings"] for one in claims)
        async with asyncio.timeout(60):
            while True:
                compared = (await http.get("/v1/packs/comparisons")).json()["data"]
                if compared and compared[0]["photos"] == 3:
                    break
                await asyncio.sleep(0.05)
        (line,) = compared
        assert line["packs"] == "segmenter 1 -> 2, classifier 1"
        assert (line["claims"], line["photos"], line["errors"]) == (3, 3, 0)
        assert (line["findings_active"], line["findings_candidate"], line["agreement"]) == (3, 0, 0)
        assert line["active_ms"]["n"] == line["candidate_ms"]["n"] == 3
        (said,) = (await http.get(f"/v1/claims/{claims[0]['id']}/canary")).json()["data"]
        assert said["findings"] == [] and said["models"]["segmenter"]["version"] == "2"
        again = (await http.get(f"/v1/claims/{claims[0]['id']}")).json()
        assert again["photos"] == claims[0]["photos"] and again["models"] == claims[0]["models"]

        promoted = await done(http, "POST", "/v1/packs/segmenter/activate", version="2")
        assert (promoted["active"], promoted["candidate"], promoted["share"]) == ("2", None, 0)
        await http.delete(f"/v1/claims/{claims[0]['id']}")
        assert (await http.get("/v1/packs/comparisons")).json()["data"][0]["claims"] == 2  # it goes with its claim


async def test_what_does_not_fit_is_refused_and_changes_nothing(tmp_path: Path, redis_url: str) -> None:
    async with house(tmp_path, redis_url) as http:
        (tmp_path / "models" / "albert" / "2" / "fp32.onnx").write_bytes(b"half a file")
        for version, status in (("2", 409), ("3", 409), ("9", 404), ("../1", 422)):
            async with asyncio.timeout(60):
                while True:
                    answer = await http.post("/v1/packs/segmenter/activate", json={"version": version})
                    if answer.status_code != 503:
                        break
                    await asyncio.sleep(0.02)
            assert answer.status_code == status, answer.text
        assert (await http.put("/v1/packs/segmenter/canary", json={"version": "1", "share": 0.5})).status_code == 409
        assert (await http.put("/v1/packs/segmenter/canary", json={"version": "2", "share": 0})).status_code == 422
        assert (await http.post("/v1/packs/generator/activate", json={"version": "2"})).status_code == 422
        shown = (await http.get("/v1/packs")).json()["segmenter"]
        assert (shown["active"], shown["previous"], shown["candidate"]) == ("1", None, None)
        assert (await claim(http))["models"]["segmenter"]["version"] == "1"


async def test_a_pack_that_is_lost_while_it_is_active_delays_claims_and_fails_none(
    tmp_path: Path, redis_url: str
) -> None:
    async with house(tmp_path, redis_url) as http:
        database = Database(f"sqlite:///{tmp_path / 'data' / 'records.db'}")
        await PackStore(database).rule("segmenter", Rule(active="4"))
        await database.close()
        files = [("photos", ("a.jpg", photo(), "image/jpeg"))]
        sent = (await http.post("/v1/claims", files=files)).json()
        assert (await http.get("/health/ready")).status_code == 503
        assert (await http.get(f"/v1/claims/{sent['id']}")).json()["status"] in ("queued", "processing")
        write_segment_pack(tmp_path / "models" / "albert" / "4", version="4")
        ended = (await http.get(f"/v1/claims/{sent['id']}", params={"wait": 60})).json()
        assert ended["status"] == "succeeded" and ended["models"]["segmenter"]["version"] == "4"


async def test_only_the_operators_admin_rules_about_packs(tmp_path: Path, redis_url: str) -> None:
    (tmp_path / "data").mkdir()
    operator, tenant = [await key(tmp_path / "data", name) for name in ("default", "acme")]
    reader = await key(tmp_path / "data", "default", "read", name="reader")
    async with house(tmp_path, redis_url) as http:
        for bearer, status in ((operator, 200), (tenant, 403), (reader, 403)):
            assert (await http.get("/v1/packs", headers=bearing(bearer))).status_code == status


def test_the_share_is_chosen_by_the_claims_id_alone() -> None:
    ids = [f"clm_{number:026d}" for number in range(4000)]
    tenth = {claim_id for claim_id in ids if chosen(claim_id, 0.1)}
    assert 300 < len(tenth) < 500
    assert tenth <= {claim_id for claim_id in ids if chosen(claim_id, 0.3)}
    assert all(chosen(claim_id, 1.0) for claim_id in ids) and not any(chosen(claim_id, 0.0) for claim_id in ids)
