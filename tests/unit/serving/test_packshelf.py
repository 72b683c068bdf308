"""A model service holds its own pack and one more: a switch drops no request, and memory holds two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI

from services.classifier.app import build_app
from services.classifier.model import CONTRACT
from services.classifier.settings import Settings
from services.common.serving import modelhost
from services.common.serving.clients import HttpClassifier, in_process
from services.common.serving.errors import InvalidRequest, NotFound, NotReady, PackRefused, Unprocessable
from services.common.serving.modelhost import ModelHost
from services.common.serving.packshelf import PackShelf
from services.common.serving.schemas import ModelInfo
from tests.packs import CROP_SIZE, write_classify_pack

CROPS = np.zeros((2, CROP_SIZE, CROP_SIZE, 3), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for version in ("1", "2", "3"):
        write_classify_pack(tmp_path / version, version=version)
    return tmp_path


@pytest.fixture
async def client(folder: Path) -> AsyncIterator[HttpClassifier]:
    app = build_app(Settings(pack=folder / "2", provider="cpu", threads=1))
    async with app.router.lifespan_context(app), in_process(app) as http:
        await ready(HttpClassifier(http))
        yield HttpClassifier(http)


async def ready(client: HttpClassifier) -> ModelInfo:
    async with asyncio.timeout(60):
        while True:
            try:
                return await client.info(fresh=True)
            except NotReady:
                await asyncio.sleep(0.01)


async def loaded(client: HttpClassifier) -> set[str]:
    return {pack.version for pack in await client.packs() if pack.state != "there"}


async def test_each_request_is_answered_by_the_version_that_it_names(client: HttpClassifier) -> None:
    first, second = client.at("1"), client.at("3")
    assert await loaded(client) == {"2"}
    with pytest.raises(NotReady):
        await first.info()
    assert (await ready(first)).model.version == "1"
    assert await loaded(client) == {"1", "2"}
    answers = await asyncio.gather(*(each.classify(CROPS) for each in (client, first, client, first)))
    assert [answer.model.version for answer in answers] == ["2", "1", "2", "1"]
    assert (await ready(second)).model.version == "3"
    assert [pack.version for pack in await client.packs()] == ["1", "2", "3"]
    assert [pack.version for pack in await client.packs() if pack.own] == ["2"]


async def test_no_third_pack_is_loaded_before_one_is_closed_and_none_is_closed_while_it_answers(folder: Path) -> None:
    shelf = PackShelf("classifier", "classify", CONTRACT, Settings(pack=folder / "2", provider="cpu", threads=1))

    async def until(version: str, state: str) -> None:
        async with asyncio.timeout(60):
            while {pack.version: pack.state for pack in await shelf.listed()}[version] != state:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async with shelf.lifespan(FastAPI()):
        await until("2", "ready")
        with shelf.using("1"):
            pass
        await until("1", "ready")
        with shelf.using("2") as own:
            with shelf.using("3"):
                pass
            await until("3", "ready")  # in the place of 1, which nobody used
            assert {pack.version: pack.state for pack in await shelf.listed()}["1"] == "there"
            with shelf.using("3"), shelf.using("1") as third:
                await asyncio.sleep(0.2)
                with pytest.raises(NotReady, match="loading"):
                    third.info()
                assert len((await own.run(CROPS))["logits"]) == 2  # asked to leave, and answers still
        await until("1", "ready")
        assert (await shelf.readiness()).ready
        with pytest.raises(NotReady):
            await own.run(CROPS)


async def test_however_fast_versions_are_asked_for_two_are_held_and_the_last_ones_win(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[ModelHost] = []
    start = ModelHost.start

    def counted(host: ModelHost) -> None:
        started.append(host)
        start(host)
        assert sum(bool(other._instances) for other in started if other is not host) < 2

    monkeypatch.setattr(ModelHost, "start", counted)
    shelf = PackShelf("classifier", "classify", CONTRACT, Settings(pack=folder / "2", provider="cpu", threads=1))
    async with shelf.lifespan(FastAPI()):
        for version in ("1", "3", "2", "1", "3", "1"):
            with shelf.using(version):
                await asyncio.sleep(0)
        async with asyncio.timeout(60):
            while {p.version for p in await shelf.listed() if p.state == "ready"} != {"1", "3"}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert sum(bool(host._instances) for host in started) == 2


async def test_a_pack_that_cannot_be_served_is_refused_harms_nobody_and_is_taken_once_it_is_mended(
    client: HttpClassifier, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (folder / "3" / "fp32.onnx").read_bytes()
    (folder / "3" / "fp32.onnx").write_bytes(whole[:-1])
    broken = client.at("3")
    with pytest.raises(PackRefused, match=r"fp32\.onnx"):
        await ready(broken)
    assert (await client.classify(CROPS)).model.version == "2"
    assert {pack.version: pack.state for pack in await client.packs()}["3"] == "failed"
    (folder / "3" / "fp32.onnx").write_bytes(whole)
    monkeypatch.setattr(modelhost, "_AGAIN_S", 0)
    assert (await ready(broken)).model.version == "3"


async def test_a_folder_that_is_not_named_for_its_version_is_refused(client: HttpClassifier, folder: Path) -> None:
    (folder / "1").rename(folder / "4")
    with pytest.raises(PackRefused, match="version 1"):
        await ready(client.at("4"))


@pytest.mark.parametrize(
    ("version", "refusal"), [("9", NotFound), ("../2", Unprocessable), (".", Unprocessable), ("2/../3", Unprocessable)]
)
async def test_only_versions_that_lie_beside_its_own_are_found(
    client: HttpClassifier, version: str, refusal: type[Exception]
) -> None:
    with pytest.raises((refusal, InvalidRequest)):
        await client.at(version).info()
    assert await loaded(client) == {"2"}
