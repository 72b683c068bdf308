"""Every error of the public API: a problem document that says what to do, and nothing half-left behind."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy.exc import OperationalError

from services.gateway import ids, upload
from services.gateway.records.states import States
from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.pictures import RED, bomb, photo
from tests.unit.gateway.running import gateway

LIMITS: dict[str, Any] = {"max_photos": 3, "max_photo_bytes": 200_000, "max_claim_bytes": 300_000}


@pytest.fixture
async def http(tmp_path: Path, redis_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with gateway(tmp_path, redis_url, Fakes(), **LIMITS) as client:
        yield client


@pytest.fixture
def named(tmp_path: Path, redis_url: str) -> Callable[[str], AbstractAsyncContextManager[httpx2.AsyncClient]]:
    """A gateway whose `hosts` are these."""
    return lambda hosts: gateway(tmp_path, redis_url, Fakes(), worker=False, hosts=hosts)


def problem(answer: httpx2.Response, status: int, slug: str) -> str:
    """The detail of a problem document, after checking that it is a whole one."""
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    body = answer.json()
    assert (answer.status_code, body["status"]) == (status, status)
    assert body["type"] == f"urn:claimsight:problem:{slug}"
    assert body["title"] and body["detail"] and body["instance"].startswith("/")
    assert body["request_id"] == answer.headers["X-Request-Id"]
    if status in (503, 504):
        assert int(answer.headers["Retry-After"]) >= 1
    return str(body["detail"])


async def nothing_is_left(http: httpx2.AsyncClient, folder: Path) -> bool:
    listed = (await http.get("/v1/claims")).json()["data"]
    return listed == [] and not list((folder / "store").rglob("photos/*/*"))


def files(*photos: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("photos", ("a.jpg", data)) for data in photos]


@pytest.mark.parametrize(
    ("data", "status", "slug"),
    [
        (b"This is no photo at all.", 415, "unsupported-media-type"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "unsupported-media-type"),
        (b"", 422, "photo-undecodable"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, 422, "photo-undecodable"),
        (bomb(), 422, "photo-too-many-pixels"),
        (b"\xff\xd8\xff" + b"\0" * 250_000, 413, "payload-too-large"),
    ],
    ids=["text", "svg", "zero bytes", "broken header", "169 megapixels in 20 kB", "one photo too large"],
)
async def test_a_claim_without_any_usable_photo_is_refused_and_leaves_nothing(
    http: httpx2.AsyncClient, tmp_path: Path, data: bytes, status: int, slug: str
) -> None:
    answer = await http.post("/v1/claims", files=files(data))
    problem(answer, status, slug)
    assert answer.json()["photos"][0]["detail"]
    assert await nothing_is_left(http, tmp_path)


def test_the_bomb_is_small_and_large() -> None:
    assert len(bomb()) < 30_000


async def test_too_many_photos_are_refused(http: httpx2.AsyncClient, tmp_path: Path) -> None:
    answer = await http.post("/v1/claims", files=files(*[photo()] * 4))
    assert "3 photos" in problem(answer, 413, "too-many-photos")
    assert await nothing_is_left(http, tmp_path)


@pytest.mark.parametrize("announced", [True, False], ids=["with Content-Length", "chunked"])
async def test_a_claim_that_is_too_large_is_refused_while_reading(
    http: httpx2.AsyncClient, tmp_path: Path, announced: bool
) -> None:
    photo_part = b'--x\r\nContent-Disposition: form-data; name="photos"\r\n\r\n' + b"\xff" * 1_000_000 + b"\r\n"
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(3):
            for start in range(0, len(photo_part), 65_536):
                sent += 1
                yield photo_part[start : start + 65_536]

    content = photo_part * 3 if announced else chunks()
    answer = await http.post("/v1/claims", content=content, headers={"Content-Type": "multipart/form-data; boundary=x"})
    problem(answer, 413, "payload-too-large")
    assert sent < 3 * 16
    assert await nothing_is_left(http, tmp_path)


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "", "multipart/form-data", "multipart/form-data; boundary="]
)
async def test_another_content_type_is_refused_with_an_example(http: httpx2.AsyncClient, content_type: str) -> None:
    answer = await http.post("/v1/claims", content=b"{}", headers={"Content-Type": content_type})
    assert "curl -F photos=@car.jpg" in problem(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    "body",
    [b"", b"--x", b"--x\r\nnonsense", b'--x\r\nContent-Disposition: form-data; name="photos"\r\n\r\nabc'],
    ids=["empty", "boundary only", "no header", "cut off"],
)
async def test_a_broken_multipart_body_is_refused(http: httpx2.AsyncClient, body: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    problem(await http.post("/v1/claims", content=body, headers=headers), 400, "invalid-request")


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": "[1]"},
        {"metadata": "{"},
        {"metadata": '{"a": NaN}'},
        {"metadata": '{"a": 1e999}'},
        {"metadata": '{"a": "\\u0000"}'},
        {"metadata": '{"a": "\\ud800"}'},
        {"metadata": '{"a":' * 500 + "1" + "}" * 500},
        {"metadata": "[" * 15_000},
        {"external_ref": "a\x00b"},
        {"external_ref": "x" * 201},
        {"colour": "red"},
    ],
    ids=lambda fields: str(fields)[:30],
)
async def test_fields_that_do_not_fit_are_refused_with_what_does(
    http: httpx2.AsyncClient, tmp_path: Path, fields: dict[str, str]
) -> None:
    answer = await http.post("/v1/claims", files=files(photo()), data=fields)
    problem(answer, 422, "invalid-request")
    assert await nothing_is_left(http, tmp_path)


async def test_a_claim_without_photos_is_refused(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/v1/claims", files=[("external_ref", (None, b"A"))])
    assert "no photo" in problem(answer, 422, "invalid-request")


async def test_a_text_that_is_too_long_is_refused(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/v1/claims", files=files(photo()), data={"metadata": "x" * 20_000})
    problem(answer, 413, "payload-too-large")


@pytest.mark.parametrize("claim_id", [ids.new("clm"), "clm_x", "1", "clm_" + "%00" * 26, "..%2f..%2fetc", "' OR 1=1"])
async def test_an_unknown_claim_is_not_found(http: httpx2.AsyncClient, claim_id: str) -> None:
    problem(await http.get(f"/v1/claims/{claim_id}"), 404, "not-found")


async def test_an_unknown_or_foreign_photo_is_not_found(http: httpx2.AsyncClient) -> None:
    wait = {"Prefer": "wait=20"}
    mine, other = [(await http.post("/v1/claims", files=files(photo(RED)), headers=wait)).json() for _ in range(2)]
    for photo_id in (other["photos"][0]["id"], ids.new("pho"), "pho_1"):
        problem(await http.get(f"/v1/claims/{mine['id']}/photos/{photo_id}/overlay.webp"), 404, "not-found")


@pytest.mark.parametrize(
    "query",
    [
        "page_size=0",
        "page_size=x",
        "page_size=101",
        "page_token=abc",
        "page_token=%00",
        "status=x",
        "external_ref=%00",
    ],
)
async def test_a_bad_query_is_explained(http: httpx2.AsyncClient, query: str) -> None:
    problem(await http.get(f"/v1/claims?{query}"), 422, "invalid-request")


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/v1/claims"), ("PUT", "/"), ("PATCH", "/v1/models")])
async def test_an_unknown_method_is_a_problem(http: httpx2.AsyncClient, method: str, path: str) -> None:
    problem(await http.request(method, path), 405, "method-not-allowed")


async def test_a_405_lists_every_method_of_the_address(http: httpx2.AsyncClient) -> None:
    assert (await http.put("/v1/claims")).headers["Allow"] == "GET, HEAD, POST"
    assert (await http.get("/v1/photos:check")).headers["Allow"] == "POST"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil", "", "["]
)
async def test_a_name_that_is_not_ours_is_refused_whatever_it_asks(http: httpx2.AsyncClient, host: str) -> None:
    for path in ("/", "/v1/claims", "/health/live"):
        answer = await http.get(path, headers={"Host": host})
        assert "CLAIMSIGHT_GATEWAY_HOSTS" in problem(answer, 403, "host-not-allowed")


@pytest.mark.parametrize(
    "host", ["localhost:8080", "LOCALHOST", "127.0.0.1:80", "[::1]:8080", "192.168.1.7", "car.local"]
)
async def test_loopback_addresses_and_the_name_listened_on_are_ours(tmp_path: Path, redis_url: str, host: str) -> None:
    async with gateway(tmp_path, redis_url, Fakes(), worker=False, host="car.local") as http:
        assert (await http.get("/v1/claims", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:3000", "http://127.0.0.1.evil", "http://["]
)
async def test_a_page_of_another_site_cannot_send_a_claim(
    http: httpx2.AsyncClient, tmp_path: Path, origin: str
) -> None:
    answer = await http.post("/v1/claims", files=files(photo()), headers={"Origin": origin})
    assert "CLAIMSIGHT_GATEWAY_HOSTS" in problem(answer, 403, "origin-not-allowed")
    assert await nothing_is_left(http, tmp_path)


@pytest.mark.parametrize(
    ("hosts", "url", "origin", "status"),
    [
        ("", "http://127.0.0.1:8080", "http://127.0.0.1:8080", 202),
        ("claims.example, intranet", "http://claims.example", "https://claims.example", 202),
        ("claims.example, intranet", "http://INTRANET:8080", "https://claims.example:8443", 202),
        ("claims.example", "http://other.example", "https://claims.example", 403),
        ("*", "http://any.example", "https://any.example", 202),
        ("*", "http://any.example", "https://evil.example", 403),
        ("*,portal.example", "http://any.example", "https://portal.example", 202),
    ],
)
async def test_named_hosts_are_reached_and_their_pages_may_send(
    named: Callable[[str], AbstractAsyncContextManager[httpx2.AsyncClient]],
    hosts: str,
    url: str,
    origin: str,
    status: int,
) -> None:
    async with named(hosts) as http:
        answer = await http.post(f"{url}/v1/claims", files=files(photo(RED)), headers={"Origin": origin})
        assert answer.status_code == status, answer.text


@pytest.mark.parametrize("path", ["/v2", "/page/settings.py", "/page/..%2fapp.py", "/v1/claims/x/y"])
async def test_an_unknown_address_is_a_problem(http: httpx2.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert answer.status_code in (404, 422) and answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("prefer", ['respond-async, wait="20"', "Wait = 20", "handling=lenient; wait=20"])
async def test_a_preference_is_understood_however_it_is_spelt(http: httpx2.AsyncClient, prefer: str) -> None:
    answer = await http.post("/v1/claims", files=files(photo(RED)), headers={"Prefer": prefer})
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (200, "wait=20")


@pytest.mark.parametrize("prefer", ["wait", "wait=x", "wait=-1", "x" * 500])
async def test_an_odd_preference_is_ignored(http: httpx2.AsyncClient, prefer: str) -> None:
    answer = await http.post("/v1/claims", files=files(photo(RED)), headers={"Prefer": prefer})
    assert answer.status_code == 202


async def test_a_full_queue_refuses_before_reading_and_leaves_nothing(tmp_path: Path, redis_url: str) -> None:
    async with gateway(tmp_path, redis_url, Fakes(), worker=False, max_queue=1) as http:
        assert (await http.post("/v1/claims", files=files(photo(RED)))).status_code == 202
        answer = await http.post("/v1/claims", files=files(photo(RED, RED)))
        problem(answer, 503, "queue-full")
        assert len((await http.get("/v1/claims")).json()["data"]) == 1
        assert len(list((tmp_path / "store").rglob("photos/*/*"))) == 1


async def test_a_lost_queue_refuses_and_leaves_nothing(tmp_path: Path) -> None:
    async with gateway(tmp_path, "redis://127.0.0.1:9", Fakes(), worker=False) as http:
        problem(await http.post("/v1/claims", files=files(photo(RED))), 503, "not-ready")
        assert await nothing_is_left(http, tmp_path)


async def test_lost_records_are_a_clear_answer(tmp_path: Path, redis_url: str) -> None:
    async with gateway(tmp_path, redis_url, Fakes(), worker=False) as http:
        with closing(sqlite3.connect(tmp_path / "records.db")) as records:
            records.execute("ALTER TABLE claims RENAME TO elsewhere")
        answer = await http.get("/v1/claims")
        assert "records" in problem(answer, 503, "not-ready")


async def test_records_lost_behind_an_accepted_claim_never_ask_to_send_it_again(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> None:
        raise OperationalError("SELECT", None, OSError("gone"))

    monkeypatch.setattr(States, "of", lost)
    answer = await http.post("/v1/claims", files=files(photo(RED)))
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (503, "urn:claimsight:problem:not-ready")
    assert "is accepted" in problem["detail"] and "again" not in problem["detail"]
    monkeypatch.undo()
    assert (await http.get(f"/v1/claims/{problem['claim_id']}")).status_code == 200


async def test_whoever_forgot_curls_at_sign_is_told(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/v1/claims", files={"photos": (None, b"car.jpg")})
    assert "photos=@car.jpg" in problem(answer, 415, "unsupported-media-type")
    answer = await http.post("/v1/claims", files={"photos": ("car.jpg", b"car.jpg")})
    assert "@" not in problem(answer, 415, "unsupported-media-type")


async def test_a_full_disk_is_said_and_not_a_failure_inside(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(tmp_path, redis_url, Fakes(), worker=False) as http:
        batch = (await http.post("/v1/batches", json={})).json()["links"]["self"]
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Path("/dev/full").open("r+b"))  # noqa: SIM115
        monkeypatch.setattr(upload, "_IN_MEMORY", 0)
        large = files(photo(RED) + bytes(2**21))
        part = http.put(f"{batch}/parts/1", content=bytes(2**21))
        for answer in (await http.post("/v1/claims", files=large), await part):
            assert "no room" in problem(answer, 503, "not-ready") and answer.headers["Retry-After"]
        monkeypatch.undo()
        assert (await http.post("/v1/claims", files=large)).status_code == 202


async def test_many_uploads_at_once_never_pass_the_limit(tmp_path: Path, redis_url: str) -> None:
    async with gateway(tmp_path, redis_url, Fakes(), worker=False, max_queue=3) as http:
        sent = (http.post("/v1/claims", files=files(photo(RED))) for _ in range(8))
        answers = [answer.status_code for answer in await asyncio.gather(*sent)]
        assert set(answers) == {202, 503} and answers.count(202) <= 3


async def test_no_mangled_upload_ever_breaks_the_gateway(http: httpx2.AsyncClient) -> None:
    request = http.build_request("POST", "/v1/claims", files=files(photo(RED)), data={"metadata": '{"a": 1}'})
    body, headers = await request.aread(), {"Content-Type": request.headers["Content-Type"]}
    dice = random.Random(7)
    for _ in range(150):
        mangled = bytearray(body)
        for _ in range(dice.randint(1, 12)):
            mangled[dice.randrange(len(mangled))] = dice.randrange(256)
        start = dice.choice((0, dice.randrange(200)))
        answer = await http.post("/v1/claims", content=bytes(mangled[start:]), headers=headers)
        assert answer.status_code == 202 or 400 <= answer.status_code < 500, answer.text
