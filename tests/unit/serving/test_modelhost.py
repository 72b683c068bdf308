"""A model service tells the truth about its model, also after it was ready."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from numpy.typing import NDArray

from services.classifier.app import build_app
from services.classifier.model import CONTRACT
from services.classifier.settings import Settings
from services.common.serving import modelhost
from services.common.serving.errors import NotReady, Problem
from services.common.serving.golden import Outputs
from services.common.serving.modelhost import ModelHost
from services.common.serving.prepare import prepare
from services.common.serving.session import Opened, Session
from tests.packs import CROP_SIZE, write_classify_pack

CROPS = np.zeros((1, CROP_SIZE, CROP_SIZE, 3), np.uint8)


async def reach(host: ModelHost, state: str) -> None:
    async with asyncio.timeout(60):
        while (await host.readiness()).state != state:  # noqa: ASYNC110 - readiness is asked, not told
            await asyncio.sleep(0.005)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[ModelHost]:
    made = ModelHost("classifier", "classify", CONTRACT, Settings(pack=write_classify_pack(tmp_path)))
    async with made.lifespan(FastAPI()):
        await reach(made, "ready")
        yield made


async def test_it_is_not_ready_before_it_is_warm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    warm_up = Session.warm_up

    def slow(session: Session, tell: Opened) -> float:
        tell(1, 4)
        assert go.wait(60)
        return warm_up(session, tell)

    monkeypatch.setattr(Session, "warm_up", slow)
    made = ModelHost("classifier", "classify", CONTRACT, Settings(pack=write_classify_pack(tmp_path)))
    async with made.lifespan(FastAPI()):
        await reach(made, "warming")
        assert {"done": 1, "total": 4}.items() <= (await made.readiness()).extra.items()
        assert not (await made.readiness()).started
        with pytest.raises(NotReady, match="warming"):
            made.info()
        with pytest.raises(NotReady, match="warming"):
            await made.run(CROPS)
        go.set()
        await reach(made, "ready")
        assert len((await made.run(CROPS))["logits"]) == 1


async def test_a_model_that_fails_again_and_again_is_not_ready_until_it_works(
    host: ModelHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(rows: object) -> None:
        raise RuntimeError("CUDA error 700")

    batcher = host._ready()[0].batcher
    healthy = batcher._run
    monkeypatch.setattr(batcher, "_run", lost)
    for _ in range(5):
        with pytest.raises(Problem) as caught:
            await host.run(CROPS)
        assert "CUDA" not in caught.value.detail
    assert (await host.readiness()).state == "failing"
    assert host.info().state == "failed"
    monkeypatch.setattr(batcher, "_run", healthy)
    await host.run(CROPS)
    assert (await host.readiness()).ready and host.info().state == "ready"


async def test_a_run_that_hangs_is_not_ready(host: ModelHost, monkeypatch: pytest.MonkeyPatch) -> None:
    go, began = threading.Event(), threading.Event()
    batcher = host._ready()[0].batcher
    healthy = batcher._run

    def hangs(rows: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> object:
        began.set()
        assert go.wait(60)
        return healthy(rows)

    monkeypatch.setattr(batcher, "_run", hangs)
    monkeypatch.setattr(modelhost, "STALLED_S", 0.01)
    task = asyncio.create_task(host.run(CROPS))
    await asyncio.to_thread(began.wait, 60)
    await reach(host, "stalled")
    go.set()
    await task
    assert (await host.readiness()).ready


async def test_stopping_while_it_loads_is_no_error(tmp_path: Path) -> None:
    made = ModelHost("classifier", "classify", CONTRACT, Settings(pack=write_classify_pack(tmp_path)))
    async with made.lifespan(FastAPI()):
        pass
    with pytest.raises(NotReady):
        await made.run(CROPS)


async def test_a_precision_the_pack_lacks_fails_saying_which(tmp_path: Path) -> None:
    folder = write_classify_pack(tmp_path)
    made = ModelHost("segmenter", "classify", CONTRACT, Settings(pack=folder, precision="int8"))
    async with made.lifespan(FastAPI()):
        await reach(made, "failed")
        assert "`int8`" in (await made.readiness()).detail


async def test_several_instances_share_the_work(tmp_path: Path) -> None:
    folder = write_classify_pack(tmp_path)
    made = ModelHost("classifier", "classify", CONTRACT, Settings(pack=folder, instances=2, queue_rows=8))
    async with made.lifespan(FastAPI()):
        await reach(made, "ready")
        first, second = (instance.session for instance in made._ready())
        assert first is not second
        ran = {id(first): 0, id(second): 0}
        together = threading.Barrier(2)  # passed only when both run at the same time
        for instance in made._ready():

            def counted(rows: NDArray[np.uint8], session: Session = instance.session) -> Outputs:
                together.wait(60)
                ran[id(session)] += 1
                return session.run(rows)

            instance.batcher._run = counted
        answers = await asyncio.gather(made.run(CROPS), made.run(CROPS))
        assert [len(answer["logits"]) for answer in answers] == [1, 1]
        assert set(ran.values()) == {1}


def test_the_gpus_are_a_list() -> None:
    assert Settings(gpus="0,2").gpus == [0, 2]
    with pytest.raises(ValueError, match="gpus"):
        Settings(gpus="first")


@pytest.mark.parametrize("broken", [False, True])
def test_preparing_ends_well_only_where_a_start_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: bool
) -> None:
    pack = write_classify_pack(tmp_path)
    if broken:
        (pack / "fp32.onnx").write_bytes(b"cut off")
    settings = Settings(pack=pack)
    if not broken:
        prepare(build_app(settings), settings)
        assert "the pack is whole" in capsys.readouterr().out
        return
    with pytest.raises(SystemExit, match=r"would not become ready.*fp32\.onnx"):
        prepare(build_app(settings), settings)
