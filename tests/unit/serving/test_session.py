"""A graph answers only after it proved itself, on the provider that really runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from services.common.serving import providers
from services.common.serving.cores import cpu_threads
from services.common.serving.golden import Contract
from services.common.serving.modelpack import Pack, PackError, PackFile, load_pack, write_pack
from services.common.serving.providers import CPU, Plan, ProviderUnavailable, Rung
from services.common.serving.session import Choice, NotFiniteError, SessionError, buckets, open_pack
from services.common.serving.tensors import dump
from tests.packs import CROP_SIZE, manifest, write_classify_pack

CONTRACT = Contract("crops", ("logits", "gates", "embedding"))
SIZE = 4


def double_graph(*, factor: float = 2.0, batch: str | int = "B") -> bytes:
    """crops uint8 [B, 4, 4, 3] -> y: its mean times `factor`, divided by the pixel at the corner."""
    given = helper.make_tensor_value_info("crops", TensorProto.UINT8, [batch, SIZE, SIZE, 3])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])
    weights = [
        helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor]),
        helper.make_tensor("start", TensorProto.INT64, [2], [0, 0]),
        helper.make_tensor("end", TensorProto.INT64, [2], [1, 1]),
    ]
    nodes = [
        helper.make_node("Cast", ["crops"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["x", "start", "end", "axes"], ["corner"]),
        helper.make_node("Div", ["x", "corner"], ["relative"]),
        helper.make_node("ReduceMean", ["relative", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "factor"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [given], [out], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def double_pack(folder: Path, graph: bytes, *, golden_of: bytes | None = None, **changes: Any) -> Pack:
    rows = np.full((1, SIZE, SIZE, 3), 10, np.uint8)
    session = ort.InferenceSession(golden_of or graph, providers=[CPU])
    recorded = dump({"crops": rows, "y": session.run(None, {"crops": rows})[0]})
    return write_pack(folder, manifest("classify", "double", size=SIZE, **changes), {"fp32": graph, "golden": recorded})


def rows(n: int, value: int = 10) -> NDArray[np.uint8]:
    return np.full((n, SIZE, SIZE, 3), value, np.uint8)


DOUBLE = Contract("crops", ("y",))


def test_it_answers_every_batch_size_up_to_the_largest(tmp_path: Path) -> None:
    session = open_pack(double_pack(tmp_path, double_graph()), DOUBLE, Choice(provider="cpu", max_batch=6))
    assert session.buckets == (1, 2, 4, 6)
    session.warm_up()
    for n in range(1, 7):
        assert session.run(rows(n))["y"].tolist() == [[2, 2, 2]] * n


def test_the_ref_names_exactly_what_runs(tmp_path: Path) -> None:
    pack = double_pack(tmp_path, double_graph())
    session = open_pack(pack, DOUBLE, Choice())
    assert session.ref.sha256 == pack.manifest.files["fp32"].sha256
    assert session.ref.provider == session.providers[0]
    assert session.ref.precision == "fp32"


def test_a_graph_that_does_not_give_the_golden_outputs_is_refused(tmp_path: Path) -> None:
    pack = double_pack(tmp_path, double_graph(factor=2.01), golden_of=double_graph())
    with pytest.raises(PackError, match="golden"):
        open_pack(pack, DOUBLE, Choice(provider="cpu"))


def test_a_graph_within_the_packs_tolerance_is_taken(tmp_path: Path) -> None:
    pack = double_pack(tmp_path, double_graph(factor=2.01), golden_of=double_graph(), tolerance=0.02)
    open_pack(pack, DOUBLE, Choice(provider="cpu"))


def test_golden_outputs_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    recorded = dump({"crops": rows(1), "y": np.full((1, 3), np.nan, np.float32)})
    pack = write_pack(tmp_path, manifest("classify", "double", size=SIZE), {"fp32": double_graph(), "golden": recorded})
    with pytest.raises(PackError, match="golden"):
        open_pack(pack, DOUBLE, Choice(provider="cpu"))


@pytest.mark.parametrize(
    "recorded",
    [
        {"crops": rows(1)},
        {"crops": rows(1), "z": np.zeros((1, 3), np.float32)},
        {"crops": rows(1).astype(np.float32), "y": np.zeros((1, 3), np.float32)},
        {"crops": rows(1)[:, :2], "y": np.zeros((1, 3), np.float32)},
        {"crops": rows(1), "y": np.zeros((1, 5), np.float32)},
    ],
)
def test_a_golden_file_of_another_shape_is_refused(tmp_path: Path, recorded: dict[str, NDArray[np.generic]]) -> None:
    files = {"fp32": double_graph(), "golden": dump(recorded)}
    with pytest.raises(PackError, match="golden"):
        open_pack(write_pack(tmp_path, manifest("classify", "double", size=SIZE), files), DOUBLE, Choice())


def test_a_golden_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    pack = write_pack(tmp_path, manifest("classify", "x", size=SIZE), {"fp32": double_graph(), "golden": b"not so"})
    with pytest.raises(PackError, match="golden"):
        open_pack(pack, DOUBLE, Choice())


def test_nan_is_an_error_and_never_no_damage(tmp_path: Path) -> None:
    session = open_pack(double_pack(tmp_path, double_graph()), DOUBLE, Choice(provider="cpu"))
    with pytest.raises(NotFiniteError, match="y"):
        session.run(rows(1, 0))  # 0 / 0


def test_a_provider_that_is_asked_for_and_is_not_there_is_an_error_that_says_why(tmp_path: Path) -> None:
    pack = double_pack(tmp_path, double_graph())
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(SessionError, match=r"cuda: .*claimsight\[gpu\]"):
        open_pack(pack, DOUBLE, Choice(provider="cuda"))
    with pytest.raises(SessionError, match="require_gpu"):
        open_pack(pack, DOUBLE, Choice(require_gpu=True))
    with pytest.raises(SessionError, match="require_gpu"):
        open_pack(pack, DOUBLE, Choice(provider="cpu", require_gpu=True))


def test_auto_falls_to_the_cpu_and_says_what_it_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(plan: Plan) -> ort.InferenceSession:
        raise ProviderUnavailable("out of order")

    ladder = (Rung("cuda", "CUDAExecutionProvider", True, absent), *providers.ladder("cpu"))
    monkeypatch.setattr(providers, "_LADDER", ladder)
    session = open_pack(double_pack(tmp_path, double_graph()), DOUBLE, Choice())
    assert session.ref.provider == CPU
    assert session.notes == "cuda: out of order"


def test_a_session_that_silently_runs_on_the_cpu_is_not_called_anything_else(tmp_path: Path) -> None:
    """ONNX Runtime drops a provider it cannot load and goes on; the placement of the nodes tells the truth."""
    (cpu,) = providers.ladder("cpu")
    pretender = Rung("cuda", "CUDAExecutionProvider", True, cpu.open)
    plan = Plan(double_graph(), 1, "crops", (SIZE, SIZE, 3), 8, False, None)
    with pytest.raises(ProviderUnavailable, match="on CPUExecutionProvider"):
        providers.open_session(pretender, plan)


def test_a_fast_provider_whose_answers_are_off_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first rung here runs another graph: a stand-in for a provider with a broken kernel."""
    (cpu,) = providers.ladder("cpu")

    def sloppy(plan: Plan) -> ort.InferenceSession:
        return cpu.open(replace(plan, graph=double_graph(factor=2.5)))

    fast = Rung("openvino", CPU, False, sloppy)
    monkeypatch.setattr(providers, "_LADDER", (fast, *providers.ladder("cpu")))
    monkeypatch.setattr("services.common.serving.session._CPU_RUNG", cpu)
    # On the CPU provider fp32 must be exact, so let the sloppy one run another precision.
    folder = tmp_path / "pack"
    graph = double_graph()
    pack = double_pack(folder, graph)
    files = {"fp32": graph, "int8": double_graph(factor=2.0001), "golden": pack.read("golden")}
    pack = write_pack(folder, pack.manifest, files)
    session = open_pack(pack, DOUBLE, Choice(precision="int8"))
    assert "openvino int8: y is 25.0% off" in session.notes
    assert session.run(rows(1))["y"][0, 0] == pytest.approx(2, rel=1e-3)


def test_another_precision_is_held_to_the_packs_parity(tmp_path: Path) -> None:
    graph = double_graph()
    for factor, fits in ((2.05, True), (2.5, False)):
        folder = tmp_path / str(factor)
        recorded = double_pack(folder, graph).read("golden")
        files = {"fp32": graph, "int8": double_graph(factor=factor), "golden": recorded}
        pack = write_pack(folder, manifest("classify", "double", size=SIZE), files)
        if fits:
            session = open_pack(pack, DOUBLE, Choice(provider="cpu", precision="int8"))
            assert session.ref.precision == "int8"
            assert session.ref.sha256 == pack.manifest.files["int8"].sha256
        else:
            with pytest.raises(SessionError, match="off the golden output"):
                open_pack(pack, DOUBLE, Choice(provider="cpu", precision="int8"))


def test_a_precision_the_pack_does_not_have_is_an_error_that_lists_what_it_has(tmp_path: Path) -> None:
    pack = double_pack(tmp_path, double_graph())
    with pytest.raises(PackError, match="`int8`; it has fp32, golden"):
        open_pack(pack, DOUBLE, Choice(provider="cpu", precision="int8"))


def test_a_graph_with_a_frozen_batch_size_does_not_pass_the_warm_up(tmp_path: Path) -> None:
    session = open_pack(double_pack(tmp_path, double_graph(batch=1)), DOUBLE, Choice(provider="cpu"))
    with pytest.raises(PackError, match="batch of 2"):
        session.warm_up()


def test_openvino_runs_where_it_offers_itself(tmp_path: Path) -> None:
    pack = load_pack(write_classify_pack(tmp_path))
    try:
        session = open_pack(pack, CONTRACT, Choice(provider="openvino"))
    except SessionError as error:
        pytest.skip(str(error))
    assert session.ref.provider == "OpenVINOExecutionProvider"
    assert session.run(np.zeros((3, CROP_SIZE, CROP_SIZE, 3), np.uint8))["logits"].shape == (3, 3)


def test_the_pack_caps_the_batch(tmp_path: Path) -> None:
    session = open_pack(double_pack(tmp_path, double_graph(), max_batch=3), DOUBLE, Choice(max_batch=8))
    assert session.buckets == (1, 2, 3)


def test_buckets_are_powers_of_two_and_the_largest() -> None:
    assert buckets(1) == (1,)
    assert buckets(8) == (1, 2, 4, 8)
    assert buckets(12) == (1, 2, 4, 8, 12)


def test_threads_are_never_none_and_never_more_than_allowed() -> None:
    assert 1 <= cpu_threads() <= len(os.sched_getaffinity(0))


def test_auto_takes_the_int8_graph_on_the_cpu_and_fp32_where_int8_is_off(tmp_path: Path) -> None:
    graph = double_graph()
    for factor, parity, runs in ((2.02, None, "int8"), (2.3, None, "fp32"), (2.3, 0.2, "int8")):
        folder = tmp_path / f"{factor}-{parity}"
        described = manifest("classify", "double", size=SIZE)
        recorded = double_pack(folder, graph).read("golden")
        if parity:
            described.files["int8"] = PackFile(path="-", sha256="0" * 64, bytes=1, parity=parity)
        files = {"fp32": graph, "int8": double_graph(factor=factor), "golden": recorded}
        pack = write_pack(folder, described, files)
        session = open_pack(pack, DOUBLE, Choice(provider="cpu"))
        assert session.ref.precision == runs
        assert ("cpu int8: y is 15.0% off" in session.notes) == (runs == "fp32")


def crowded(monkeypatch: pytest.MonkeyPatch, room: int) -> list[int]:
    """The CPU as a device with memory for `room` rows, and how many rows each run got."""
    tried: list[int] = []

    class Device:
        def __init__(self, inner: ort.InferenceSession) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def run(self, names: list[str], given: dict[str, NDArray[np.uint8]]) -> Any:
            tried.append(len(given["crops"]))
            if tried[-1] > room:
                raise RuntimeError("CUDA failure 2: out of memory ; GPU=0")
            return self._inner.run(names, given)

    (cpu,) = providers.ladder("cpu")
    ladder = (replace(cpu, open=lambda plan: Device(cpu.open(plan))),)
    monkeypatch.setattr(providers, "_LADDER", ladder)
    return tried


def test_a_batch_for_which_there_is_no_memory_runs_in_halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = crowded(monkeypatch, 2)
    session = open_pack(double_pack(tmp_path, double_graph()), DOUBLE, Choice(provider="cpu", max_batch=8))
    tried.clear()
    assert session.run(rows(7))["y"].tolist() == [[2, 2, 2]] * 7
    assert tried == [7, 4, 2, 2, 3, 2, 1]


def test_what_onnx_runtime_itself_says_when_memory_ends_is_understood(tmp_path: Path) -> None:
    """In a process of its own, whose allocator for every session has 16 KiB: the exception is the runtime's own."""
    code = f"""
import onnxruntime as ort
from pathlib import Path
from services.common.serving import providers
from services.common.serving.cores import cpu_threads
from tests.unit.serving.test_session import DOUBLE, double_graph, double_pack, rows
from services.common.serving.session import Choice, open_pack
memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
limit = {{"max_mem": 16384, "arena_extend_strategy": 1, "initial_chunk_size_bytes": 1024}}
ort.create_and_register_allocator(memory, ort.OrtArenaCfg(limit))
made = providers._options
def limited(plan):
    options = made(plan)
    options.add_session_config_entry("session.use_env_allocators", "1")
    return options
providers._options = limited
pack = double_pack(Path({str(tmp_path)!r}), double_graph(), max_batch=64)
session = open_pack(pack, DOUBLE, Choice("cpu", max_batch=64))
assert session.run(rows(64))["y"].tolist() == [[2, 2, 2]] * 64
session.warm_up()
print(session.buckets, session.notes)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "no memory for" in done.stdout and "64)" not in done.stdout


def test_a_batch_size_that_never_fits_is_left_out_at_warm_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crowded(monkeypatch, 2)
    session = open_pack(double_pack(tmp_path, double_graph()), DOUBLE, Choice(provider="cpu", max_batch=8))
    session.warm_up()
    assert session.buckets == (1, 2)
    assert "no memory for 4 rows" in session.notes


def test_every_batch_size_gets_an_engine_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rung that builds engines, with the CPU provider behind it: what is told, and what each engine is given."""
    built: list[int] = []
    (cpu,) = providers.ladder("cpu")

    def build(plan: Plan) -> ort.InferenceSession:
        built.append(plan.max_batch)
        return cpu.open(plan)

    ladder = (Rung("tensorrt", CPU, True, build, engines=True),)
    monkeypatch.setattr(providers, "_LADDER", ladder)
    session = open_pack(double_pack(tmp_path, double_graph()), DOUBLE, Choice(max_batch=6))
    assert built == [1]  # proven on the smallest before minutes go into the others
    told: list[tuple[int, int]] = []
    session.warm_up(lambda done, total: told.append((done, total)))
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert built == [1, 2, 4, 6]
    assert session.run(rows(3))["y"].shape == (3, 3)
    assert built == [1, 2, 4, 6]


def queries_graph(order: list[int]) -> bytes:
    """crops -> y [B, 4] and z [B, 4, 2]: four fixed queries in `order`, whatever the crops show."""
    score, says = np.array([5, 4.99, -3, -8], np.float32), np.arange(8, dtype=np.float32).reshape(4, 2)
    given = helper.make_tensor_value_info("crops", TensorProto.UINT8, ["B", SIZE, SIZE, 3])
    outs = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 4]),
        helper.make_tensor_value_info("z", TensorProto.FLOAT, ["B", 4, 2]),
    ]
    weights = [
        numpy_helper.from_array(score[order], "score"),
        numpy_helper.from_array(says[order], "says"),
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
        helper.make_tensor("all", TensorProto.INT64, [3], [1, 2, 3]),
        helper.make_tensor("last", TensorProto.INT64, [1], [2]),
    ]
    nodes = [
        helper.make_node("Cast", ["crops"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x", "all"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Unsqueeze", ["nothing", "one"], ["column"]),
        helper.make_node("Add", ["column", "score"], ["y"]),
        helper.make_node("Unsqueeze", ["column", "last"], ["cube"]),
        helper.make_node("Add", ["cube", "says"], ["z"]),
    ]
    weights.append(helper.make_tensor("one", TensorProto.INT64, [1], [1]))
    model = helper.make_model(
        helper.make_graph(nodes, "g", [given], outs, weights),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    return bytes(model.SerializeToString())


def test_queries_are_a_set_whose_better_half_must_be_found(tmp_path: Path) -> None:
    """Rounding swaps near ties among the best queries: the same answer in another order is the same answer."""
    pixels = rows(1)
    graph = queries_graph([0, 1, 2, 3])
    y, z = ort.InferenceSession(graph, providers=[CPU]).run(None, {"crops": pixels})
    recorded = dump({"crops": pixels, "y": y, "z": z})
    contract = Contract("crops", ("y", "z"), queries=("y", "z"))
    for number, (order, fits) in enumerate((([1, 0, 2, 3], True), ([1, 0, 2, 2], True), ([0, 2, 3, 3], False))):
        described = manifest("classify", "q", size=SIZE)
        files = {"fp32": graph, "int8": queries_graph(order), "golden": recorded}
        pack = write_pack(tmp_path / str(number), described, files)
        session = open_pack(pack, contract, Choice(provider="cpu"))
        assert session.ref.precision == ("int8" if fits else "fp32")
