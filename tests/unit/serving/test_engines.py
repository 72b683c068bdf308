"""TensorRT engines: a folder for everything an engine depends on, one builder at a time, corrupt ones built again."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import onnxruntime as ort
import pytest

from services.common.serving import engines, providers
from services.common.serving.providers import Plan, ProviderUnavailable


def test_the_folder_names_everything_that_an_engine_depends_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus, driver = tmp_path / "gpus", tmp_path / "version"
    (gpus / "0000:01:00.0").mkdir(parents=True)
    (gpus / "0000:01:00.0" / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ: 12\n")
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 2025\n")
    monkeypatch.setattr(engines, "_GPUS", gpus)
    monkeypatch.setattr(engines, "_DRIVER", driver)
    name = engines.folder_of(tmp_path, "ab" * 32).name
    assert name.startswith("abababababababab-ort")
    for part in (ort.__version__, "trtnone", "driver580.65.06", "NVIDIA_H100_80GB_HBM3"):
        assert part in name
    assert engines.folder_of(tmp_path, "cd" * 32).name != name


def test_without_a_driver_there_is_still_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_GPUS", tmp_path / "none")
    monkeypatch.setattr(engines, "_DRIVER", tmp_path / "none")
    assert engines.folder_of(tmp_path, "ab" * 32).name.endswith("driver-gpu")


def test_who_comes_second_waits_and_finds_the_engine(tmp_path: Path) -> None:
    seen: list[bool] = []
    inside = threading.Event()

    def second() -> None:
        inside.wait(10)
        with engines.kept(tmp_path, 8) as folder:
            seen.append((folder / "engine").exists())

    other = threading.Thread(target=second)
    other.start()
    with engines.kept(tmp_path, 8) as folder:
        inside.set()
        other.join(0.05)
        assert other.is_alive()
        (folder / "engine").write_bytes(b"built")
    other.join(10)
    assert seen == [True]


@pytest.mark.parametrize(("engine", "tries"), [(b"corrupt", 2), (None, 1)])
def test_a_corrupt_engine_is_built_again_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: bytes | None, tries: int
) -> None:
    """ONNX Runtime is asked as it would be on a GPU host; what it would answer is played."""
    if engine:
        (tmp_path / "batch8").mkdir()
        (tmp_path / "batch8" / "x.engine").write_bytes(engine)
    asked: list[dict[str, str]] = []

    def opened(plan: Plan, *wanted: tuple[str, dict[str, str]]) -> ort.InferenceSession:
        assert [name for name, _ in wanted] == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
        assert {settings["device_id"] for _, settings in wanted} == {"1"}
        asked.append(wanted[0][1])
        raise RuntimeError("TensorRT EP could not deserialize engine from cache")

    monkeypatch.setattr(providers, "_open_gpu", opened)
    with pytest.raises(RuntimeError, match="deserialize"):
        providers._open_tensorrt(Plan(b"", 1, "crops", (4, 4, 3), 8, True, tmp_path, device=1))
    assert len(asked) == tries
    assert list((tmp_path / "batch8").iterdir()) == []
    assert asked[0]["trt_profile_min_shapes"] == asked[0]["trt_profile_max_shapes"] == "crops:8x4x4x3"
    assert asked[0]["trt_engine_cache_path"] == str(tmp_path / "batch8")
    assert asked[0]["trt_fp16_enable"] == "1"


def test_the_gpu_build_is_asked_for_tensorrt_with_its_libraries_open_and_no_way_to_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel's libnvinfer lies where no loader looks until its package is imported; and by itself ONNX Runtime would
    answer a provider that failed with a session on the CPU."""
    (tmp_path / "tensorrt.py").write_text("")  # stands in for the wheel
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["TensorrtExecutionProvider"])

    def session(graph: bytes, options: ort.SessionOptions, *, providers: object, enable_fallback: int) -> None:
        assert "tensorrt" in sys.modules
        assert enable_fallback == 0
        raise RuntimeError("libnvinfer.so.10: cannot open shared object file")

    monkeypatch.setattr(ort, "InferenceSession", session)
    (rung,) = providers.ladder("tensorrt")
    with pytest.raises(ProviderUnavailable, match=r"libnvinfer\.so\.10"):
        providers.open_session(rung, Plan(b"", 1, "crops", (4, 4, 3), 8, False, None))
    sys.modules.pop("tensorrt")
