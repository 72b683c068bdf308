"""Engines ahead of time: every batch size, where the service looks for them, or a clear word on what is missing."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort
import pytest

from export.convert import to_engine
from services.common.serving import engines, providers
from services.common.serving.contracts import CONTRACTS
from services.common.serving.modelpack import load_pack
from services.common.serving.providers import CPU, Plan, Rung
from services.common.serving.session import Choice, open_pack
from tests.packs import write_classify_pack, write_memory_pack


def test_without_a_gpu_it_says_what_is_missing(tmp_path: Path) -> None:
    if "TensorrtExecutionProvider" in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has TensorRT")
    pack = write_classify_pack(tmp_path / "pack")
    with pytest.raises(SystemExit) as ended:
        to_engine.main(["--pack", str(pack), "--engines", str(tmp_path / "engines")])
    assert all(word in str(ended.value) for word in ("tensorrt", "claimsight[gpu]", "claimsight doctor"))


def test_a_pack_without_a_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no graph"):
        to_engine.main(["--pack", str(write_memory_pack(tmp_path)), "--engines", str(tmp_path)])


def test_the_service_finds_what_was_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """TensorRT is played: what it would write is written, and the CPU provider answers."""
    (cpu,) = providers.ladder("cpu")
    built: list[int] = []

    def tensorrt(plan: Plan) -> ort.InferenceSession:
        assert plan.cache_dir is not None
        with engines.kept(plan.cache_dir, plan.max_batch) as folder:
            if not list(folder.iterdir()):
                built.append(plan.max_batch)
                (folder / "x.engine").write_bytes(b"engine")
        return cpu.open(plan)

    monkeypatch.setattr(providers, "_LADDER", (Rung("tensorrt", CPU, True, tensorrt, engines=True),))
    folder, there = write_classify_pack(tmp_path / "pack"), tmp_path / "engines"
    to_engine.main(["--pack", str(folder), "--engines", str(there), "--max-batch", "6"])
    assert built == [1, 2, 4, 6]
    assert "batches of 1, 2, 4, 6 rows" in capsys.readouterr().out
    session = open_pack(load_pack(folder), CONTRACTS["classify"], Choice(max_batch=6, cache_dir=there))
    session.warm_up()
    assert built == [1, 2, 4, 6]
