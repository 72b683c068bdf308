"""Every error is a problem document, and none tells what went on inside."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI, Request, UploadFile
from pydantic import BaseModel

from services.common.serving.app import create_app
from services.common.serving.clients import in_process
from services.common.serving.errors import NotReady, Problem, QueueFull

SECRET = "postgresql://user:hunter2@db"


class Order(BaseModel):
    number: int


def app() -> FastAPI:
    made = create_app(service="test", version="1", max_body_bytes=1000)

    @made.post("/orders")
    async def order(order: Order) -> int:
        return order.number

    @made.post("/files")
    async def files(photos: list[UploadFile]) -> int:
        return len(photos)

    @made.post("/bytes")
    async def count(request: Request) -> int:
        return len(await request.body())

    @made.get("/broken")
    async def broken() -> None:
        raise RuntimeError(SECRET)

    @made.get("/full")
    async def full() -> None:
        raise QueueFull("No room.", retry_after=7, depth=3)

    return made


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with in_process(app()) as client:
        yield client


def assert_problem(answer: httpx2.Response, status: int, slug: str) -> dict[str, object]:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, object] = answer.json()
    assert document["type"] == f"urn:claimsight:problem:{slug}"
    assert document["status"] == status
    assert document["title"] and document["detail"]
    assert document["instance"] == answer.request.url.path
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


async def test_an_unknown_address_is_a_problem(http: httpx2.AsyncClient) -> None:
    assert_problem(await http.get("/nowhere"), 404, "not-found")


async def test_a_wrong_method_is_a_problem_that_keeps_the_allow_header(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/orders")
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"number": "x"}', b"\xff\xfe", b""])
async def test_a_body_that_does_not_fit_is_a_problem(http: httpx2.AsyncClient, body: bytes) -> None:
    answer = await http.post("/orders", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert_problem(answer, answer.status_code, "invalid-request")


async def test_a_validation_problem_names_the_field_and_not_the_input(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/orders", json={"number": "4111 1111 1111 1111"})
    document = assert_problem(answer, 422, "invalid-request")
    assert document["errors"] == [{"where": "body.number", "what": document["errors"][0]["what"]}]  # type: ignore[index]
    assert "4111" not in answer.text


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data; boundary=x", "text/plain", "multipart/mixed"]
)
async def test_a_broken_form_is_a_problem(http: httpx2.AsyncClient, kind: str) -> None:
    answer = await http.post("/files", content=b"--y\r\nnot a form", headers={"content-type": kind})
    assert answer.status_code in (400, 422)
    assert_problem(answer, answer.status_code, "invalid-request")


async def test_an_unexpected_error_is_a_503_that_leaks_nothing(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/broken")
    assert_problem(answer, 503, "internal")
    assert "hunter2" not in answer.text and "RuntimeError" not in answer.text
    assert int(answer.headers["retry-after"]) > 0


async def test_a_problem_keeps_its_members_and_retry_after(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/full")
    document = assert_problem(answer, 503, "queue-full")
    assert document["depth"] == 3
    assert answer.headers["retry-after"] == "7"


async def test_extension_members_cannot_overwrite_the_standard_ones() -> None:
    made = create_app(service="test", version="1")

    @made.get("/odd")
    async def odd() -> None:
        raise Problem("Odd.", status=200, type="x", request_id="y")

    async with in_process(made) as http:
        assert_problem(await http.get("/odd"), 503, "internal")


async def test_a_sane_request_id_is_echoed_and_another_is_replaced(http: httpx2.AsyncClient) -> None:
    kept = await http.get("/health/live", headers={"x-request-id": "abc-123-def"})
    assert kept.headers["x-request-id"] == "abc-123-def"
    for odd in ("short", "x" * 200, 'has"quotes{}', "has spaces in"):
        replaced = await http.get("/health/live", headers={"x-request-id": odd})
        assert replaced.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("value", ["0", "-1", "soon", "1e3", "9" * 30, "²"])
async def test_a_deadline_that_is_no_number_is_a_problem(http: httpx2.AsyncClient, value: str) -> None:
    answer = await http.get("/health/live", headers=[(b"x-request-timeout-ms", value.encode())])
    assert_problem(answer, 400, "invalid-request")


async def test_readiness_explains_itself_and_liveness_does_not_depend_on_it() -> None:
    from services.common.serving.health import Readiness  # noqa: PLC0415

    state = Readiness("warming", "Batch size 3 of 4.", {"done": 2})

    async def check() -> Readiness:
        return state

    async with in_process(create_app(service="test", version="1", readiness=check)) as http:
        assert (await http.get("/health/live")).status_code == 200
        document = assert_problem(await http.get("/health/ready"), 503, "not-ready")
        assert document["state"] == "warming" and document["done"] == 2 and document["detail"] == "Batch size 3 of 4."
        assert_problem(await http.get("/health/startup"), 503, "not-ready")
        state = Readiness("no queue", "Start Redis.")
        assert (await http.get("/health/startup")).status_code == 200
        assert (await http.get("/health/ready")).status_code == 503
        state = Readiness()
        assert (await http.get("/health/ready")).json() == {"status": "ready", "service": "test", "version": "1"}


async def test_a_readiness_check_that_breaks_is_not_ready() -> None:
    async def check() -> None:
        raise OSError("no route to host")

    async with in_process(create_app(service="test", version="1", readiness=check)) as http:  # type: ignore[arg-type]
        assert_problem(await http.get("/health/ready"), 503, "internal")


async def test_every_operation_documents_problems(http: httpx2.AsyncClient) -> None:
    paths = json.loads((await http.get("/openapi.json")).text)["paths"]
    operations = [operation for path in paths.values() for operation in path.values()]
    assert operations
    for operation in operations:
        assert "application/problem+json" in operation["responses"]["default"]["content"]
        assert "422" not in operation["responses"]  # the framework's own shape is never sent


async def test_not_ready_asks_to_come_again() -> None:
    assert NotReady("x").retry_after == 5
