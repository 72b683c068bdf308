"""Retrieval's routes, asked by the client that the pipeline uses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import numpy as np
import pytest

from services.common.serving import folderlock, tensors
from services.common.serving.clients import HttpRetrieval, in_process
from services.common.serving.errors import InvalidRequest, NotFound, Unprocessable
from services.retrieval.app import build_app
from services.retrieval.index import NeighbourIndex
from services.retrieval.settings import Settings
from tests.packs import BACKBONE
from tests.unit.retrieval import cases


@asynccontextmanager
async def _running(pack: Path, data: Path) -> AsyncIterator[httpx2.AsyncClient]:
    app = build_app(Settings(pack=pack, data=data))
    async with app.router.lifespan_context(app), in_process(app) as http:
        async with asyncio.timeout(120):
            while "being loaded" in (await http.get("/v1/info")).text:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        yield http


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    async with _running(cases.pack(tmp_path / "pack").folder, tmp_path / "data") as client:
        yield client


async def test_the_client_gets_neighbours_nearest_first(http: httpx2.AsyncClient) -> None:
    client = HttpRetrieval(http)
    info = await client.info()
    assert (info.rows, info.embedding_dim, info.backbone) == (cases.ROWS, cases.DIMENSION, BACKBONE)
    queries = cases.unit(cases.arrays()["embedding"])[:3]
    found = await client.search(queries, k=4, exclude_claim="clm_x")
    assert [row[0].id for row in found] == ["memory-1/0", "memory-1/1", "memory-1/2"]
    assert all(len(row) == 4 for row in found)


async def test_a_body_that_is_no_embedding_gets_a_problem_document(http: httpx2.AsyncClient) -> None:
    wrong = tensors.dump({"embedding": np.zeros((1, cases.DIMENSION), np.float64)})
    for body in (b"", b"not tensors", wrong):
        answer = await http.post("/v1/search", content=body)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert "embedding" in answer.json()["detail"]
    many = tensors.dump({"embedding": np.zeros((257, 4), np.float32)})
    assert (await http.post("/v1/search", content=many)).status_code == 413
    assert (await http.post("/v1/search?k=0", content=wrong)).status_code in (400, 422)


async def test_every_verb_of_the_memory_works_through_the_client(http: httpx2.AsyncClient) -> None:
    client, crop = HttpRetrieval(http), cases.crop(0)
    assert (await client.add(cases.case(), crop, tenant="acme", backbone=BACKBONE)).outcome == "kept"
    snapshot = await client.snapshot()
    await client.correct("rev_1", "scratch", tenant="acme", reviewer="bo")
    assert [n.id for n in (await client.search(crop[None], k=1, tenant="acme", label="scratch"))[0]] == ["rev_1"]
    await client.retract("rev_1", tenant="acme")
    assert (await client.search(crop[None], k=1, tenant="acme"))[0][0].id != "rev_1"
    assert await client.restore(snapshot.name) == snapshot
    stats = await client.stats(tenant="acme")
    assert (stats.cases, stats.training, stats.snapshots) == ({"dent": 1}, cases.ROWS, [snapshot])
    log = (await http.get("/v1/log", params={"tenant": "acme"})).json()
    assert {entry["action"] for entry in log} == {"kept", "corrected", "retracted"}


async def test_what_the_memory_does_not_take_is_a_problem_and_never_a_500(http: httpx2.AsyncClient) -> None:
    client, crop = HttpRetrieval(http), cases.crop(0)
    with pytest.raises(NotFound):
        await client.retract("../../rev_1", tenant="acme")
    with pytest.raises(NotFound):
        await client.restore("../snp_1")
    with pytest.raises(Unprocessable, match="label"):
        await client.add(cases.case(label="rust"), crop, tenant="acme", backbone=BACKBONE)
    for body in (tensors.dump({"embedding": crop[None]}), tensors.dump({"embedding": crop[None]}, {"case": "[1"})):
        answer = await http.post("/v1/cases", content=body, params={"tenant": "acme", "backbone": BACKBONE})
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert (await http.get("/v1/stats")).status_code == 422  # whose?


async def test_an_embedding_of_another_length_is_told_how_to_rebuild(http: httpx2.AsyncClient) -> None:
    with pytest.raises(InvalidRequest, match=r"services\.retrieval rebuild"):
        await HttpRetrieval(http).search(np.eye(1, 5, dtype=np.float32), k=1)


async def test_a_missing_pack_is_not_ready_and_says_where_it_looked(tmp_path: Path) -> None:
    async with _running(tmp_path / "nowhere", tmp_path / "data") as http:
        ready = await http.get("/health/ready")
        assert ready.status_code == 503
        assert "nowhere" in ready.json()["detail"]
        assert (await http.get("/health/live")).status_code == 200
        search = await http.post("/v1/search", content=tensors.dump({"embedding": np.eye(1, 4, dtype=np.float32)}))
        assert search.status_code == 503


async def test_a_memory_that_cannot_be_opened_for_any_reason_says_so_instead_of_loading_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("something inside of ChromaDB")

    monkeypatch.setattr(NeighbourIndex, "build", broken)
    async with _running(cases.pack(tmp_path / "pack").folder, tmp_path / "data") as http:
        ready = await http.get("/health/ready")
        assert (ready.status_code, ready.json()["state"]) == (503, "failed")
        assert "RuntimeError" in ready.json()["detail"] and "inside" not in ready.text


async def test_two_services_do_not_write_to_one_folder(tmp_path: Path) -> None:
    pack = cases.pack(tmp_path / "pack").folder
    with folderlock.held(tmp_path / "data"):
        async with _running(pack, tmp_path / "data") as http:
            ready = await http.get("/health/ready")
            assert "in use by another" in ready.json()["detail"]
