"""Packs in half precision and INT8 keep what they promise, or are not written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.train

from torch import Tensor, nn  # noqa: E402

from export.convert import __main__ as command  # noqa: E402
from export.convert.compare import fallback  # noqa: E402
from export.convert.parity import LIMITS, Agreement, ParityError, agreement  # noqa: E402
from export.convert.to_fp16 import KEPT_IN_FP32, to_fp16  # noqa: E402
from export.convert.to_int8 import kept_in_fp32, to_int8  # noqa: E402
from export.convert.to_onnx import run, to_onnx  # noqa: E402
from export.cropresmoe.evaluate import Answers, Memory  # noqa: E402
from services.common.serving.golden import Contract  # noqa: E402
from services.common.serving.modelpack import Manifest, load_pack  # noqa: E402
from services.common.serving.session import Choice, Precision, open_pack  # noqa: E402
from tests.packs import (  # noqa: E402
    COLOURS,
    CROP_SIZE,
    SEGMENT_SIZE,
    classify_graph,
    manifest,
    painted_photo,
    segment_graph,
    write_classify_pack,
)

SIZE = 16


class Small(nn.Module):
    """A convolution that a clip cuts off, attention between positions, and two heads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Sequential(nn.Conv2d(3, 16, 3, stride=4), nn.ReLU6(), nn.Conv2d(16, 16, 1))
        self.norm, self.mix, self.head = nn.LayerNorm(16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(crops.permute(0, 3, 1, 2).to(self.head.weight.dtype) / 64)
        tokens = self.norm(self.mix(x.flatten(2).transpose(1, 2)))
        attention = (tokens @ tokens.transpose(1, 2)).softmax(-1)
        return self.head((attention @ tokens).mean(1)), attention


@pytest.fixture(scope="module")
def rows() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (16, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def graph(rows: NDArray[np.uint8]) -> bytes:
    return to_onnx(Small(), torch.from_numpy(rows), "crops", ("logits", "attention"))


def test_a_graph_tells_nothing_of_the_machine_that_made_it(graph: bytes) -> None:
    assert b".py" not in graph
    assert b"/export/" not in graph


def test_half_weights_keep_inputs_outputs_and_answers(graph: bytes, rows: NDArray[np.uint8]) -> None:
    half = to_fp16(graph)
    session = ort.InferenceSession(half, providers=["CPUExecutionProvider"])
    assert [i.type for i in session.get_inputs()] == ["tensor(uint8)"]
    assert {o.type for o in session.get_outputs()} == {"tensor(float)"}
    for n in (1, 16):  # the batch stays dynamic
        for wanted, given in zip(run(graph, {"crops": rows[:n]}), run(half, {"crops": rows[:n]}), strict=True):
            assert wanted.shape == given.shape
            assert np.abs(wanted - given).max() < 0.01


def test_normalisation_and_softmax_stay_in_single_precision(graph: bytes) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(to_fp16(graph)))
    types = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.value_info, *model.graph.output)}
    kept = [node for node in model.graph.node if node.op_type in KEPT_IN_FP32]
    assert {"LayerNormalization", "Softmax"} <= {node.op_type for node in kept}
    assert {types[node.output[0]] for node in kept} == {onnx.TensorProto.FLOAT}
    products = [node for node in model.graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
    assert {types[node.output[0]] for node in products} == {onnx.TensorProto.FLOAT16}


def test_int8_quantises_what_has_weights_and_nothing_else(graph: bytes, rows: NDArray[np.uint8]) -> None:
    small = to_int8(graph, rows)
    model = onnx.load_model_from_string(small)
    weights = {w.name: w for w in model.graph.initializer}
    dequantised = [n for n in model.graph.node if n.op_type == "DequantizeLinear"]
    scales = [weights[n.input[1]] for n in dequantised if n.input[1] in weights]
    assert any(len(scale.dims) == 1 and scale.dims[0] == 16 for scale in scales), "no scale per channel"
    quantised = {n.output[0] for n in dequantised}
    products = [n for n in model.graph.node if n.op_type in ("Conv", "MatMul", "Gemm")]
    free = [n for n in products if not quantised & set(n.input)]
    assert (
        len(products) - len(free) == 2
    )  # the convolutions; not products of activations, not what is last before an output
    for n in (1, 16):
        wanted, given = run(graph, {"crops": rows[:n]}), run(small, {"crops": rows[:n]})
        off = np.linalg.norm(wanted[0] - given[0]) / np.linalg.norm(wanted[0])
        assert off < 0.1


def test_the_last_weights_before_each_output_and_products_of_activations_are_kept(graph: bytes) -> None:
    model = onnx.load_model_from_string(graph)
    by_name = {n.name: n for n in model.graph.node}
    constant = {w.name for w in model.graph.initializer}
    kept = [by_name[name] for name in kept_in_fp32(model, ["logits"])]
    assert sum(not constant & set(n.input[1:2]) for n in kept) == 2  # tokens x tokens, attention x tokens
    assert sum(bool(constant & set(n.input[1:2])) for n in kept) == 1  # the head


def test_a_graph_that_answers_too_differently_is_refused() -> None:
    graph = classify_graph()
    rows = np.random.default_rng(1).integers(0, 256, (12, CROP_SIZE, CROP_SIZE, 3), dtype=np.uint8)
    same = agreement(manifest("classify", "c", size=CROP_SIZE), graph, graph, rows)
    assert same == Agreement(kept=1.0, iou=1.0, flips=0.0, logits=0.0)
    same.must_hold(LIMITS["fp16"])
    spoilt = onnx.load_model_from_string(graph)
    (weights,) = (w for w in spoilt.graph.initializer if list(w.dims) == [3, 3])
    weights.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weights), weights.name))
    other = agreement(manifest("classify", "c", size=CROP_SIZE), graph, spoilt.SerializeToString(), rows)
    assert other.flips == 1.0
    with pytest.raises(ParityError, match=r"flips is 1\.0000; the limit is 0\.01"):
        other.must_hold(LIMITS["fp16"])


def test_parity_of_a_segmenter_counts_listed_instances_their_labels_and_masks() -> None:
    rows = np.stack([painted_photo((COLOURS["dent"], (0.3, 0.3, 0.6, 0.6)), height=64, width=64)] * 2)
    graph, described = segment_graph(), manifest("segment", "s", size=SEGMENT_SIZE)
    assert agreement(described, graph, graph, rows) == Agreement(kept=1.0, iou=1.0, flips=0.0, logits=0.0)
    blind = graph.replace(  # the filter that sees red sees nothing: the dent is gone, the parts stay
        np.array([20, -10, -10], np.float32).tobytes(), np.array([-10, -10, -10], np.float32).tobytes()
    )
    found = agreement(described, graph, blind, rows)
    assert 0 < found.kept < 1
    assert found.iou == 1.0
    assert found.flips == 0.0


def test_what_another_graphs_queries_find_in_a_memory_is_told_beside_what_its_own_found(tmp_path: Path) -> None:
    pack = load_pack(
        write_classify_pack(tmp_path, thresholds={"tau": 0.6, "lambda": 0.7, "sharpness": 0.1, "max_distance": 2.0})
    )
    memory = Memory(np.repeat(np.eye(2, 8, dtype=np.float32), 20, axis=0), np.repeat([0, 1], 20))
    sure, unsure = [0.9, 0.05, 0.05], [0.45, 0.5, 0.05]
    before = Answers(
        probabilities=np.array([sure, unsure]),
        gates=np.zeros((2, 5), np.float32),
        embedding=np.eye(2, 8, dtype=np.float32)[[0, 0]],
        labels=np.array([0, 0]),
        image=np.array([0, 1]),
        size=np.zeros(2, np.int64),
        photos=[],
    )
    same = {name: value for name, value, *_ in fallback(pack, before, before, memory)}
    assert list(same.values()) == [1, 0, 0, 0]
    other = replace(before, embedding=np.eye(2, 8, dtype=np.float32)[[0, 1]])  # the unsure one lies among strangers
    found = {name: (value, n) for name, value, _, n in fallback(pack, before, other, memory)}
    assert found["of fp32's 8 nearest cases found"] == (0.5, 2)
    assert found["accuracy with fallback"] == (-0.5, 2)
    assert found["accuracy with fallback, where fp32 is unsure"] == (-1, 1)


def test_a_converted_graph_lies_in_the_pack_and_the_service_runs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = np.random.default_rng(2).integers(0, 256, (24, CROP_SIZE, CROP_SIZE, 3), dtype=np.uint8)
    splits: list[str] = []

    def some(described: Manifest, data: Path, split: str, n: int) -> NDArray[np.uint8]:
        splits.append(split)
        return shown

    monkeypatch.setattr(command, "rows", some)
    pack = load_pack(write_classify_pack(tmp_path))
    for precision in ("fp16", "int8"):
        pack = command.add(pack, precision, tmp_path)
    assert set(pack.manifest.files) == {"fp32", "fp16", "int8", "golden"}
    assert splits == ["val", "train", "val"]  # what it is calibrated on is not what it is judged by; never test
    contract = Contract("crops", ("logits", "gates", "embedding"))
    faster: tuple[Precision, ...] = ("fp16", "int8")
    for precision in faster:
        session = open_pack(pack, contract, Choice(provider="cpu", precision=precision))
        assert session.ref.sha256 == pack.manifest.files[precision].sha256
    assert open_pack(pack, contract, Choice(provider="cpu")).ref.precision == "int8"
