"""A client gives back what the service said, a problem as the problem it was, and silence as a problem too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import httpx2
import numpy as np
import pytest
from fastapi import FastAPI, Request

from services.common.serving import tensors
from services.common.serving.app import create_app
from services.common.serving.clients import HttpClassifier, HttpRetrieval, HttpSegmenter, in_process, over_network
from services.common.serving.context import RequestContext, bound, current
from services.common.serving.errors import (
    DeadlineExceeded,
    InvalidRequest,
    NotReady,
    PayloadTooLarge,
    Problem,
    QueueFull,
    Unprocessable,
)
from services.common.serving.schemas import Neighbour
from services.common.serving.tensors import Spec

EMBEDDINGS = np.eye(2, 4, dtype=np.float32)


def failing(problem: Exception) -> FastAPI:
    app = create_app(service="retrieval", version="1")

    @app.post("/v1/search")
    async def search() -> None:
        raise problem

    return app


def answering(respond: Callable[[httpx2.Request], httpx2.Response]) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url="http://test", transport=httpx2.MockTransport(respond))


@pytest.mark.parametrize(
    ("raised", "kind", "status"),
    [
        (QueueFull("Full.", retry_after=9, depth=4), QueueFull, 503),
        (NotReady("Warming.", state="warming"), NotReady, 503),
        (DeadlineExceeded("Late."), DeadlineExceeded, 504),
        (InvalidRequest("Bad."), InvalidRequest, 400),
        (Unprocessable("Worse."), Unprocessable, 422),
        (PayloadTooLarge("Big."), PayloadTooLarge, 413),
        (Problem("Odd.", retry_after=3), Problem, 503),
    ],
)
async def test_a_problem_comes_back_as_the_problem_it_was(raised: Problem, kind: type[Problem], status: int) -> None:
    async with in_process(failing(raised)) as http:
        with pytest.raises(kind) as caught:
            await HttpRetrieval(http).search(EMBEDDINGS, k=1)
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert caught.value.detail == raised.detail
    assert caught.value.extra == raised.extra
    assert caught.value.retry_after == raised.retry_after


async def test_an_unexpected_error_of_a_service_comes_back_without_its_inside() -> None:
    async with in_process(failing(RuntimeError("secret"))) as http:
        with pytest.raises(Problem) as caught:
            await HttpRetrieval(http).search(EMBEDDINGS, k=1)
    assert "secret" not in caught.value.detail


async def test_nobody_there_is_not_ready() -> None:
    async with over_network("http://127.0.0.1:9") as http:  # the discard port: closed
        with pytest.raises(NotReady, match="segmenter"):
            await HttpSegmenter(http).info()


async def test_a_silent_service_is_given_up_at_the_deadline() -> None:
    app = create_app(service="retrieval", version="1")

    @app.get("/v1/info")
    async def info() -> None:
        await asyncio.Event().wait()

    async with in_process(app) as http:
        with bound(RequestContext("hasty-one", deadline=time.monotonic() + 0.05)), pytest.raises(DeadlineExceeded):
            await HttpRetrieval(http).info()
        with bound(RequestContext("too-late", deadline=time.monotonic() - 1)), pytest.raises(DeadlineExceeded):
            await HttpRetrieval(http).info()


async def test_the_request_id_the_trace_and_the_deadline_travel_along() -> None:
    seen: list[RequestContext] = []
    app = create_app(service="retrieval", version="1")

    @app.post("/v1/search")
    async def search(request: Request) -> list[list[Neighbour]]:
        seen.append(current())
        return []

    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with in_process(app) as http:
        with bound(RequestContext("walk-0001", traceparent=trace, deadline=time.monotonic() + 5)):
            await HttpRetrieval(http).search(EMBEDDINGS, k=1)
    (context,) = seen
    assert (context.request_id, context.traceparent) == ("walk-0001", trace)
    assert context.remaining_s is not None and 0 < context.remaining_s <= 5


async def test_a_search_sends_its_embeddings_and_answers_neighbours() -> None:
    app = create_app(service="retrieval", version="1")

    @app.post("/v1/search")
    async def search(request: Request, k: int, exclude_claim: str | None = None) -> list[list[Neighbour]]:
        rows = tensors.load(await request.body(), {"embedding": Spec("float32", (None, 4))})["embedding"]
        assert exclude_claim == "clm_1"
        return [[Neighbour(id=str(row.argmax()), label="dent", distance=0, source="human")] * k for row in rows]

    async with in_process(app) as http:
        found = await HttpRetrieval(http).search(EMBEDDINGS, k=2, exclude_claim="clm_1")
    assert [[n.id for n in row] for row in found] == [["0", "0"], ["1", "1"]]


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(200, text="<html>a proxy's page</html>"),
        httpx2.Response(200, json={"surprise": 1}),
        httpx2.Response(200, json=[[{"id": "1"}]]),
        httpx2.Response(502, text="Bad Gateway"),
        httpx2.Response(500, json={"type": 1}),
        httpx2.Response(404, json=[]),
    ],
)
async def test_an_answer_that_is_not_understood_is_a_problem(answer: httpx2.Response) -> None:
    async with answering(lambda _: answer) as http:
        with pytest.raises(Problem) as caught:
            await HttpRetrieval(http).search(EMBEDDINGS, k=1)
        assert caught.value.status == 503
        with pytest.raises(Problem):
            await HttpSegmenter(http).info()
        with pytest.raises(Problem):
            await HttpClassifier(http).classify(np.zeros((1, 2, 2, 3), np.uint8))


async def test_a_broken_connection_is_not_ready() -> None:
    def breaks(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadError("reset by peer")

    async with answering(breaks) as http:
        with pytest.raises(NotReady):
            await HttpRetrieval(http).info()
