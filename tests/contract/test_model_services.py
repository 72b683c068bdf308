"""Segmenter and classifier, as anyone may call them: every route, every refusal, in one process and over a socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
import numpy as np
import onnxruntime as ort
import pytest
from fastapi import FastAPI

import services.classifier.app
import services.segmenter.app
from services.classifier.settings import Settings as ClassifierSettings
from services.common.serving import tensors
from services.common.serving.clients import HttpClassifier, HttpSegmenter, in_process, over_network
from services.common.serving.errors import InvalidRequest, NotReady
from services.common.vision.masks import decode
from services.segmenter.settings import Settings as SegmenterSettings
from tests.packs import COLOURS, CROP_SIZE, EMBEDDING_DIM, VOCABULARY, painted_photo, write_test_packs
from tests.unit.gateway.servers import free_port

RED_PATCH = (COLOURS["dent"], (0.25, 0.25, 0.5, 0.5))
BLUE_PATCH = (COLOURS["broken_part"], (0.6, 0.6, 0.8, 0.8))


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_test_packs(tmp_path_factory.mktemp("models"))


@asynccontextmanager
async def serving(app: FastAPI, *, until: str = "ready") -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the running app once its state is `until`."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        client = await stack.enter_async_context(in_process(app))
        async with asyncio.timeout(60):
            while (await app.state.readiness()).state != until:  # noqa: ASYNC110 - readiness is asked, not told
                await asyncio.sleep(0.005)
        yield client


@pytest.fixture
async def segmenter(packs: dict[str, Path]) -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(services.segmenter.app.build_app(SegmenterSettings(pack=packs["segment"]))) as http:
        yield http


@pytest.fixture
async def classifier(packs: dict[str, Path]) -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(services.classifier.app.build_app(ClassifierSettings(pack=packs["classify"]))) as http:
        yield http


def crops(*names: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.stack([np.full((CROP_SIZE, CROP_SIZE, 3), COLOURS[name], np.uint8) for name in names])


def assert_problem(answer: httpx2.Response, status: int, slug: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].endswith(f":{slug}")
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_health_says_live_ready_and_started(
    segmenter: httpx2.AsyncClient, classifier: httpx2.AsyncClient
) -> None:
    for http in (segmenter, classifier):
        for path, status in (("live", "live"), ("ready", "ready"), ("startup", "started")):
            answer = await http.get(f"/health/{path}")
            assert (answer.status_code, answer.json()["status"]) == (200, status)


async def test_info_says_what_runs_on_what(segmenter: httpx2.AsyncClient, classifier: httpx2.AsyncClient) -> None:
    seen = await HttpSegmenter(segmenter).info()
    assert (seen.service, seen.model.name, seen.model.version) == ("segmenter", "albert", "1")
    assert seen.model.provider == seen.providers[0]
    assert len(seen.model.sha256) == 64
    assert seen.vocabulary == VOCABULARY and seen.names_hash == VOCABULARY.names_hash()
    judged = await HttpClassifier(classifier).info()
    assert judged.embedding_dim == EMBEDDING_DIM and judged.backbone
    assert (judged.input_height, judged.input_width) == (CROP_SIZE, CROP_SIZE)


async def test_a_photo_comes_back_as_damages_fakes_and_parts_where_they_are(segmenter: httpx2.AsyncClient) -> None:
    found = await HttpSegmenter(segmenter).segment(painted_photo(RED_PATCH, BLUE_PATCH, height=300, width=400))
    assert [(i.kind, i.label) for i in found.instances] == [
        ("damage", "dent"),
        ("fake", "reflection"),
        ("part", "door"),
    ]
    dent = found.instances[0]
    assert np.allclose(dent.box, RED_PATCH[1], atol=0.04)
    mask = decode(dent.mask.size, dent.mask.counts)
    height, width = mask.shape
    assert mask[int(0.375 * height), int(0.375 * width)] and not mask[0, 0]
    assert dent.labels[0].label == dent.label and dent.score == pytest.approx(1, abs=0.1)
    assert 0.5 < found.vehicle <= 1


async def test_an_empty_photo_has_no_instances(segmenter: httpx2.AsyncClient) -> None:
    found = await HttpSegmenter(segmenter).segment(np.zeros((50, 70, 3), np.uint8))
    assert found.instances == [] and found.vehicle == 0


async def test_a_photo_of_any_size_is_stretched_by_the_service_too(segmenter: httpx2.AsyncClient) -> None:
    for height, width in ((64, 64), (1, 1), (333, 777)):
        body = tensors.dump({"photo": painted_photo(RED_PATCH, height=height, width=width)})
        answer = await segmenter.post("/v1/segment", content=body)
        assert answer.status_code == 200, answer.text


async def test_crops_come_back_in_order_with_gates_that_sum_to_one_and_embeddings_of_length_one(
    classifier: httpx2.AsyncClient,
) -> None:
    names = ["scratch", "dent", "broken_part"] * 7  # more than one batch
    answer = await HttpClassifier(classifier).classify(crops(*names))
    assert [VOCABULARY.classes[i] for i in answer.logits.argmax(1)] == names
    assert answer.gates.shape == (21, 5) and np.allclose(answer.gates.sum(1), 1, atol=1e-5)
    assert answer.embedding.shape == (21, EMBEDDING_DIM)
    assert np.allclose(np.linalg.norm(answer.embedding, axis=1), 1, atol=1e-5)
    assert answer.model.name == "cropresmoe"


async def test_many_callers_at_once_each_get_their_own(classifier: httpx2.AsyncClient) -> None:
    client = HttpClassifier(classifier)
    names = [VOCABULARY.classes[i % 3] for i in range(30)]
    answers = await asyncio.gather(*(client.classify(crops(name)) for name in names))
    assert [VOCABULARY.classes[int(a.logits.argmax())] for a in answers] == names


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not safetensors",
        b"\x89PNG\r\n",
        tensors.dump({"photo": np.zeros((8, 8, 4), np.uint8)}),
        tensors.dump({"photo": np.zeros((8, 8, 3), np.float32)}),
        tensors.dump({"photo": np.zeros((0, 8, 3), np.uint8)}),
        tensors.dump({"photo": np.zeros((1, 8, 8, 3), np.uint8)}),
        tensors.dump({"picture": np.zeros((8, 8, 3), np.uint8)}),
    ],
)
async def test_what_is_no_photo_is_refused(segmenter: httpx2.AsyncClient, body: bytes) -> None:
    assert_problem(await segmenter.post("/v1/segment", content=body), 400, "invalid-request")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, CROP_SIZE, CROP_SIZE, 3), np.uint8),
        np.zeros((1, CROP_SIZE, CROP_SIZE + 1, 3), np.uint8),
        np.zeros((CROP_SIZE, CROP_SIZE, 3), np.uint8),
        np.zeros((1, CROP_SIZE, CROP_SIZE, 3), np.int64),
    ],
)
async def test_crops_of_another_shape_are_refused(
    classifier: httpx2.AsyncClient, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]
) -> None:
    answer = await classifier.post("/v1/classify", content=tensors.dump({"crops": array}))
    assert_problem(answer, 400, "invalid-request")
    assert f"uint8[any, {CROP_SIZE}, {CROP_SIZE}, 3]" in answer.json()["detail"]


async def test_too_many_crops_are_refused(packs: dict[str, Path]) -> None:
    app = services.classifier.app.build_app(ClassifierSettings(pack=packs["classify"], max_crops=2))
    async with serving(app) as http:
        answer = await http.post("/v1/classify", content=tensors.dump({"crops": crops("dent", "dent", "dent")}))
    assert_problem(answer, 413, "payload-too-large")


async def test_too_many_bytes_are_refused(segmenter: httpx2.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"\x00" * 1_000_000

    assert_problem(await segmenter.post("/v1/segment", content=endless()), 413, "payload-too-large")


async def test_wrong_addresses_and_methods_are_problems(segmenter: httpx2.AsyncClient) -> None:
    assert_problem(await segmenter.get("/v1/segment"), 405, "method-not-allowed")
    assert_problem(await segmenter.get("/v2/segment"), 404, "not-found")


async def test_without_a_pack_it_lives_and_says_where_it_looked_and_what_to_do(tmp_path: Path) -> None:
    app = services.segmenter.app.build_app(SegmenterSettings(pack=tmp_path / "albert"))
    async with serving(app, until="failed") as http:
        assert (await http.get("/health/live")).status_code == 200
        for path in ("/health/ready", "/health/startup", "/v1/info"):
            answer = await http.get(path)
            assert_problem(answer, 503, "not-ready")
            assert str(tmp_path / "albert") in answer.json()["detail"]
        assert (await http.get("/health/ready")).json()["state"] == "failed"
        body = tensors.dump({"photo": painted_photo()})
        assert_problem(await http.post("/v1/segment", content=body), 503, "not-ready")


async def test_a_pack_of_another_task_is_refused(packs: dict[str, Path]) -> None:
    app = services.segmenter.app.build_app(SegmenterSettings(pack=packs["classify"]))
    async with serving(app, until="failed") as http:
        with pytest.raises(NotReady, match="segment"):
            await HttpSegmenter(http).info()


async def test_requiring_a_gpu_is_never_answered_by_a_cpu(packs: dict[str, Path]) -> None:
    if {"CUDAExecutionProvider", "TensorrtExecutionProvider"} & set(ort.get_available_providers()):
        pytest.skip("this ONNX Runtime may find a GPU")
    app = services.segmenter.app.build_app(SegmenterSettings(pack=packs["segment"], require_gpu=True))
    async with serving(app, until="failed") as http:
        assert "require_gpu" in (await http.get("/health/ready")).json()["detail"]


async def test_a_newer_pack_behind_the_same_address_is_noticed(packs: dict[str, Path]) -> None:
    app = services.segmenter.app.build_app(SegmenterSettings(pack=packs["segment"]))
    async with serving(app) as http:
        client = HttpSegmenter(http)
        before = await client.info()
        client._infos[None] = before.model_copy(update={"model": before.model.model_copy(update={"version": "0"})})
        await client.segment(painted_photo())
        assert (await client.info()).model.version == "1"


async def test_crops_cut_for_a_former_pack_are_worth_another_try(packs: dict[str, Path]) -> None:
    app = services.classifier.app.build_app(ClassifierSettings(pack=packs["classify"]))
    async with serving(app) as http:
        client = HttpClassifier(http)
        now = await client.info()
        former = now.model.model_copy(update={"version": "0"})
        client._infos[None] = now.model_copy(update={"model": former, "input_height": 8, "input_width": 8})
        crops = np.zeros((1, 8, 8, 3), np.uint8)
        with pytest.raises(NotReady, match="Another model"):
            await client.classify(crops)
        assert (await client.info()).model == now.model
        with pytest.raises(InvalidRequest):
            await client.classify(crops)


@pytest.fixture(scope="module")
def process(packs: dict[str, Path]) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The classifier as its own process on a free port of the loopback."""
    port = free_port()
    command = [sys.executable, "-m", "services.classifier", "--pack", str(packs["classify"]), "--port", str(port)]
    running = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}", running
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.kill()
        running.wait(10)


async def test_over_a_socket_it_answers_the_same_and_ends_well_when_told_to(
    process: tuple[str, subprocess.Popen[bytes]], classifier: httpx2.AsyncClient
) -> None:
    url, running = process
    async with over_network(url) as http:
        client = HttpClassifier(http)
        patience = time.monotonic() + 120
        while True:
            try:
                await client.info()
                break
            except NotReady:
                assert running.poll() is None and time.monotonic() < patience
                await asyncio.sleep(0.05)
        sent = crops("dent", "scratch", "broken_part")
        far, near = await client.classify(sent), await HttpClassifier(classifier).classify(sent)
        assert far.model == near.model
        assert np.allclose(far.logits, near.logits) and np.allclose(far.embedding, near.embedding)
    running.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(running.wait, 60) == 0
