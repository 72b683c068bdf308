"""The public API: every route and what it promises."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from starlette.types import Message

from services.common.serving.errors import NotReady, Problem
from services.common.serving.schemas import Segmentation
from services.gateway import ids
from services.gateway.app import build_app
from services.gateway.photos import PhotoStore
from services.gateway.schemas import Claim
from tests.unit.gateway.fakes import Fakes, FakeSegmenter
from tests.unit.gateway.pictures import BLUE, DARK, RED, photo
from tests.unit.gateway.running import client, gateway, settings
from tests.unit.gateway.servers import postgres, postgres_binaries
from tests.unit.gateway.serving import served


def files(*photos: bytes) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("photos", ("../../etc/passwd.exe", data, "text/html")) for data in photos]


async def finished(http: httpx2.AsyncClient, *photos: bytes, **fields: str) -> dict[str, Any]:
    answer = await http.post("/v1/claims", files=files(*photos), data=fields, headers={"Prefer": "wait=20"})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_claim_is_accepted_at_once_and_can_be_asked_for(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/v1/claims", files=files(photo(RED)), data={"external_ref": "K-1"})
    assert answer.status_code == 202
    claim = answer.json()
    assert answer.headers["Location"] == f"/v1/claims/{claim['id']}"
    assert int(answer.headers["Retry-After"]) >= 1
    assert claim["external_ref"] == "K-1" and claim["object"] == "claim"
    assert claim["progress"] in ({"done": 0, "total": 1}, {"done": 1, "total": 1})
    later = await http.get(answer.headers["Location"], params={"wait": 20})
    assert later.status_code == 200 and later.json()["status"] == "succeeded"
    assert "Retry-After" not in later.headers


async def test_what_is_answered_at_once_is_what_the_records_hold(tmp_path: Path, redis_url: str) -> None:
    fields = {"external_ref": "K-2", "metadata": '{"policy": 7}', "vehicle": '{"make": "Opel"}', "view": ["front", ""]}
    async with gateway(tmp_path, redis_url, Fakes(), worker=False) as http:
        told = await http.post("/v1/claims", files=files(photo(RED), b"no photo"), data=fields)
    async with gateway(tmp_path, redis_url, Fakes(), worker=False) as http:
        kept = await http.get(told.headers["Location"])
    assert (told.json(), told.headers["ETag"]) == (kept.json(), kept.headers["ETag"])


async def test_photos_that_do_not_fit_in_memory_arrive_byte_for_byte(tmp_path: Path, redis_url: str) -> None:
    photos = [photo(RED) + os.urandom(3_000_000) for _ in range(4)]
    async with gateway(tmp_path, redis_url, Fakes(), worker=False) as http:
        claim = (await http.post("/v1/claims", files=files(*photos))).json()
    kept = PhotoStore(settings(tmp_path, redis_url).photo_store)
    for sent, told in zip(photos, claim["photos"], strict=True):
        assert told["sha256"] == hashlib.sha256(sent).hexdigest()
        assert await kept.get_photo(told["id"]) == sent


async def test_waiting_gets_the_finished_claim_in_one_request(http: httpx2.AsyncClient) -> None:
    answer = await http.post(
        "/v1/claims",
        files=files(photo(RED), photo()),
        data={"metadata": '{"policy": "P-1"}'},
        headers={"Prefer": "respond-async, wait=20"},
    )
    assert answer.status_code == 200
    assert answer.headers["Preference-Applied"] == "wait=20"
    claim = answer.json()
    Claim.model_validate(claim)
    assert (claim["status"], claim["partial"], claim["metadata"]) == ("succeeded", False, {"policy": "P-1"})
    assert claim["progress"] == {"done": 2, "total": 2} and claim["queue"] is None
    first, second = claim["photos"]
    assert [finding["damage"] for finding in first["findings"]] == ["dent"] and second["findings"] == []
    assert first["parts"][0]["display"] == "Front left door"
    assert claim["summary"]["route"] == "auto"
    assert claim["summary"]["parts"][0]["name"] == "front_left_door"
    assert claim["models"]["segmenter"]["provider"] == "CPUExecutionProvider"
    assert {"queue", "total", "decode", "segment", "classify"} <= set(claim["timings_ms"])
    assert claim["created_at"].endswith("Z")


async def test_a_wait_that_is_too_short_still_accepts_the_claim(http: httpx2.AsyncClient, fakes: Fakes) -> None:
    go_on = fakes.segmenter.hold()
    answer = await http.post("/v1/claims", files=files(photo(RED)), headers={"Prefer": "wait=1"})
    assert answer.status_code == 202 and answer.json()["status"] in ("queued", "processing")
    go_on.set()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_nobody_waits_for_a_client_that_has_left(tmp_path: Path, redis_url: str, method: str) -> None:
    app = build_app(settings(tmp_path, redis_url), Fakes().clients)  # without a worker: the claim never ends
    async with app.router.lifespan_context(app), client(app) as http:
        headers = {"Prefer": "wait=60"}
        if method == "GET":
            where = (await http.post("/v1/claims", files=files(photo(RED)))).headers["Location"]
            request = http.build_request("GET", where, params={"wait": 60})
        else:
            request = http.build_request("POST", "/v1/claims", files=files(photo(RED)), headers=headers)
        messages: list[Message] = [{"type": "http.request", "body": await request.aread()}, {"type": "http.disconnect"}]
        sent: list[Message] = []

        async def receive() -> Message:
            return messages.pop(0)

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": request.url.path,
            "query_string": request.url.query,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
        }
        async with asyncio.timeout(20):
            await app(scope, receive, send)
        assert [message.get("status") for message in sent if "status" in message] == [499]
        assert len((await http.get("/v1/claims")).json()["data"]) == 1


async def test_one_bad_photo_does_not_fail_the_claim(http: httpx2.AsyncClient) -> None:
    cut = photo(RED, size=(1600, 1200))[:-4000]
    claim = await finished(http, photo(RED), b"not a photo", cut)
    assert (claim["status"], claim["partial"]) == ("succeeded", True)
    good, text, broken = claim["photos"]
    assert good["status"] == "succeeded" and good["findings"]
    assert text["status"] == "failed" and text["error"]["type"].endswith(":unsupported-media-type")
    assert broken["status"] == "failed" and broken["error"]["type"].endswith(":photo-undecodable")
    assert claim["summary"]["route"] == "review"
    assert [reason["code"] for reason in claim["summary"]["reasons"]] == ["photo_failed"]


async def test_a_claim_whose_photos_all_turn_out_broken_fails_with_their_reason(http: httpx2.AsyncClient) -> None:
    claim = await finished(http, photo(RED, size=(1600, 1200))[:-4000])
    assert claim["status"] == "failed"
    assert claim["error"]["type"].endswith(":photo-undecodable") and claim["error"]["status"] == 422


async def test_partial_results_appear_while_the_claim_is_worked_on(http: httpx2.AsyncClient, fakes: Fakes) -> None:
    go_on = fakes.segmenter.hold(after=2)
    accepted = await http.post("/v1/claims", files=files(*[photo(RED)] * 6))
    tag, seen = accepted.headers["ETag"], set()
    async with asyncio.timeout(60):
        while True:
            where = accepted.headers["Location"]
            answer = await http.get(where, params={"wait": 5}, headers={"If-None-Match": tag})
            if answer.status_code == 304:
                continue
            tag, claim = answer.headers["ETag"], answer.json()
            seen.add(claim["progress"]["done"])
            if 2 in seen:
                go_on.set()
            if claim["status"] == "succeeded":
                break
    assert seen >= {2, 6}


async def test_an_unchanged_claim_is_not_sent_again(http: httpx2.AsyncClient) -> None:
    claim = await finished(http, photo(RED))
    first = await http.get(claim["links"]["self"])
    again = await http.get(claim["links"]["self"], headers={"If-None-Match": f'W/{first.headers["ETag"]}, "x"'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert (await http.get(claim["links"]["self"], headers={"If-None-Match": "*"})).status_code == 304


async def test_the_models_being_away_delays_a_claim_and_loses_nothing(http: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.classifier.problem = NotReady("The classifier cannot be reached")
    answer = await http.post("/v1/claims", files=files(photo(RED)), headers={"Prefer": "wait=1"})
    assert answer.status_code == 202
    fakes.classifier.problem = None
    claim = (await http.get(answer.headers["Location"], params={"wait": 20})).json()
    assert claim["status"] == "succeeded" and claim["photos"][0]["findings"]


async def test_a_claim_that_waited_too_long_for_a_model_fails_with_the_reason(
    tmp_path: Path, redis_url: str, fakes: Fakes
) -> None:
    fakes.segmenter.problem = NotReady("The segmenter cannot be reached. Is it running?")
    async with gateway(tmp_path, redis_url, fakes, claim_patience_seconds=0.01) as http:
        claim = await finished(http, photo(RED))
    assert claim["status"] == "failed" and claim["error"]["detail"].startswith("The segmenter")
    assert claim["photos"][0]["status"] == "failed" and claim["photos"][0]["error"] == claim["error"]


class _Choosy(FakeSegmenter):
    """Cannot take dark photos, however often it is asked."""

    async def segment(self, pixels: NDArray[np.uint8]) -> Segmentation:
        if pixels.mean() < 100:
            raise Problem("The segmenter's model failed on this input.")
        return await super().segment(pixels)


async def test_a_photo_that_a_model_never_can_take_fails_alone_when_patience_ends(
    tmp_path: Path, redis_url: str
) -> None:
    fakes = Fakes(segmenter=_Choosy())
    async with gateway(tmp_path, redis_url, fakes, claim_patience_seconds=0.01) as http:
        claim = await finished(http, photo(ground=DARK), photo(RED))
    assert (claim["status"], claim["partial"], claim["summary"]["route"]) == ("succeeded", True, "review")
    dark, red = claim["photos"]
    assert dark["status"] == "failed" and "model failed" in dark["error"]["detail"]
    assert red["status"] == "succeeded" and red["findings"]


async def test_a_claim_walks_the_same_way_over_postgresql(tmp_path: Path, redis_url: str, fakes: Fakes) -> None:
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed")
    with postgres(binaries) as url:
        async with gateway(tmp_path, redis_url, fakes, database_url=url) as http:
            claim = await finished(http, photo(RED), b"not a photo", metadata='{"policy": "P-1"}')
            listed = (await http.get("/v1/claims")).json()["data"]
    assert (claim["status"], claim["partial"], claim["metadata"]) == ("succeeded", True, {"policy": "P-1"})
    assert [each["id"] for each in listed] == [claim["id"]]


async def test_lists_are_paged_newest_first(http: httpx2.AsyncClient) -> None:
    made = [(await finished(http, photo(), external_ref=f"R{n % 2}"))["id"] for n in range(3)]
    first = (await http.get("/v1/claims", params={"page_size": 2})).json()
    assert [claim["id"] for claim in first["data"]] == made[:0:-1]
    assert "photos" not in first["data"][0]
    rest = (await http.get("/v1/claims", params={"page_size": 2, "page_token": first["next_page_token"]})).json()
    assert [claim["id"] for claim in rest["data"]] == made[:1] and rest["next_page_token"] is None
    mine = (await http.get("/v1/claims", params={"external_ref": "R1", "status": "succeeded"})).json()
    assert [claim["id"] for claim in mine["data"]] == [made[1]]


async def test_overlay_and_preview_are_pictures_without_metadata(http: httpx2.AsyncClient) -> None:
    claim = await finished(http, photo(RED, BLUE, size=(1600, 1200)))
    links = claim["photos"][0]["links"]
    pictures = {}
    for kind in ("overlay", "preview"):
        answer = await http.get(links[kind])
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/webp")
        assert "immutable" in answer.headers["Cache-Control"]
        pictures[kind] = answer.content
        with Image.open(io.BytesIO(answer.content)) as picture:
            assert 1000 < max(picture.size) <= 1280 and not picture.getexif()
        assert (await http.get(links[kind])).content == answer.content
    assert pictures["overlay"] != pictures["preview"]


async def test_a_failed_photo_has_no_pictures(http: httpx2.AsyncClient) -> None:
    claim = await finished(http, photo(RED), b"not a photo")
    failed = claim["photos"][1]
    assert failed["links"] == {} and failed["sha256"] is None
    answer = await http.get(f"/v1/claims/{claim['id']}/photos/{failed['id']}/overlay.webp")
    assert answer.status_code == 404


async def test_models_are_shown_exactly_and_a_missing_one_with_its_error(
    http: httpx2.AsyncClient, fakes: Fakes
) -> None:
    fakes.retrieval.problem = NotReady("The retrieval cannot be reached")
    models = (await http.get("/v1/models")).json()
    assert models["segmenter"]["model"]["sha256"] == "0" * 64
    assert models["classifier"]["supported"]["classes"] == ["dent", "scratch"]
    assert models["memory"]["status"] == 503


async def test_readiness_says_what_is_missing(http: httpx2.AsyncClient, fakes: Fakes) -> None:
    assert (await http.get("/health/ready")).status_code == 200
    fakes.segmenter.problem = NotReady("The segmenter cannot be reached. Is it running?")
    answer = await http.get("/health/ready")
    assert answer.status_code == 503 and int(answer.headers["Retry-After"]) >= 1
    assert "segmenter" in answer.json()["detail"] and answer.json()["waiting_for"] == ["models"]
    assert (await http.get("/health/live")).status_code == 200


async def test_readiness_survives_a_lost_queue(tmp_path: Path, fakes: Fakes) -> None:
    async with gateway(tmp_path, "redis://127.0.0.1:9", fakes, worker=False) as http:
        answer = await http.get("/health/ready")
        assert (answer.status_code, answer.json()["waiting_for"]) == (503, ["queue"])


async def test_readiness_asks_the_photo_store(
    tmp_path: Path, redis_url: str, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:9", "ALLOW_HTTP": "true", "REGION": "none"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    async with gateway(tmp_path, redis_url, fakes, worker=False, photos_url="s3://claimsight-photos") as http:
        answer = await http.get("/health/ready")
        assert (answer.status_code, answer.json()["waiting_for"]) == (503, ["photo store"])


async def test_the_page_is_served_under_a_strict_policy(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/")
    assert answer.status_code == 200 and "text/html" in answer.headers["Content-Type"]
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for name in ("app.js", "style.css"):
        assert f"/page/{name}" in answer.text
        assert (await http.get(f"/page/{name}")).status_code == 200
    assert "http" not in answer.text.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_head_answers_wherever_get_does_and_sends_no_body(tmp_path: Path, redis_url: str) -> None:
    with served(tmp_path, redis_url, Fakes()) as url, httpx2.Client(base_url=url, timeout=30) as http:
        sent = http.post("/v1/claims", files=files(photo(RED)), headers={"Prefer": "wait=20"}).json()
        links = sent["photos"][0]["links"].values()
        for path in (
            "/",
            "/page/app.js",
            "/openapi.json",
            "/health/ready",
            "/v1/models",
            "/v1/claims",
            sent["links"]["self"],
            *links,
            "/v1/claims/clm_1",
        ):
            got, asked = http.get(path), http.head(path)
            assert (asked.status_code, asked.content) == (got.status_code, b""), path
            assert asked.headers["Content-Length"] == str(len(got.content)), path
            assert asked.headers["Content-Type"] == got.headers["Content-Type"]


async def test_the_schema_describes_every_route(http: httpx2.AsyncClient) -> None:
    schema = (await http.get("/openapi.json")).json()
    assert set(schema["paths"]) >= {"/v1/claims", "/v1/claims/{claim_id}", "/v1/models"}
    submit, read = schema["paths"]["/v1/claims"]["post"], schema["paths"]["/v1/claims/{claim_id}"]["get"]
    assert "multipart/form-data" in submit["requestBody"]["content"]
    assert {"Location", "Retry-After", "ETag"} <= set(submit["responses"]["202"]["headers"])
    assert "304" in read["responses"] and "ETag" in read["responses"]["200"]["headers"]
    assert (await http.get("/docs")).status_code == 404  # it would run scripts from elsewhere


async def test_ids_are_prefixed_and_sortable(http: httpx2.AsyncClient) -> None:
    claim = await finished(http, photo(RED))
    assert ids.valid("clm", claim["id"]) and ids.valid("pho", claim["photos"][0]["id"])
    assert ids.valid("fnd", claim["photos"][0]["findings"][0]["id"])


async def test_names_from_outside_reach_no_path(http: httpx2.AsyncClient, tmp_path: Path) -> None:
    claim = await finished(http, photo(RED))
    kept = [name for _, _, names in os.walk(tmp_path) for name in names]
    assert claim["photos"][0]["id"] in kept
    assert not any("passwd" in name for name in kept)
    assert "passwd" not in json.dumps(claim)
