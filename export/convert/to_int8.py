"""A pack's fp32 graph in INT8: static quantisation as QDQ, weights per channel, activations calibrated on real rows.

Unsigned activations and signed weights (u8s8), and only what multiplies by constant weights: for those ONNX
Runtime's CPU provider has fast kernels. Products of two activations (attention, dynamic filters) stay in fp32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

_TIMES_WEIGHTS = ("Conv", "Gemm", "MatMul")
# Beside them the activations they flow into: otherwise what a clip cuts off is given most of the 256 steps, and half
# precision of five bits is left (logits 17 % off instead of 4 %).
_CUT = ("Clip", "Relu")


class _Rows(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
    """Feeds rows one by one: the memory of a batch is what calibration costs."""

    def __init__(self, name: str, rows: NDArray[np.uint8]) -> None:
        self._left: Iterator[dict[str, NDArray[np.uint8]]] = ({name: rows[i : i + 1]} for i in range(len(rows)))

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return next(self._left, None)


def to_int8(graph: bytes, rows: NDArray[np.uint8]) -> bytes:
    """The quantised graph, whose ranges are the smallest and largest activations on `rows` (uint8 [n, h, w, 3]).

    Rows must be none that anything is measured on later. The last weights before each output stay in fp32: they are
    few, and what they round nothing after them can mend.
    """
    with TemporaryDirectory() as folder:
        given, shaped, done = (Path(folder) / name for name in ("fp32.onnx", "shaped.onnx", "int8.onnx"))
        given.write_bytes(graph)
        quant_pre_process(str(given), str(shaped), skip_symbolic_shape=True)
        model = onnx.load(shaped)
        quantize_static(
            shaped,
            done,
            _Rows(model.graph.input[0].name, rows),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*_TIMES_WEIGHTS, *_CUT],
            nodes_to_exclude=kept_in_fp32(model, [output.name for output in model.graph.output]),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return done.read_bytes()


def kept_in_fp32(model: onnx.ModelProto, outputs: Sequence[str]) -> list[str]:
    """Names of the products without constant weights, and of the nodes with weights that are last before `outputs`."""
    constant = {weight.name for weight in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type in _TIMES_WEIGHTS]
    weighted = {node.name for node in products if constant & set(node.input[1:2])}
    made_by = {name: node for node in model.graph.node for name in node.output}
    last: set[str] = set()
    seen: set[str] = set()
    ahead = list(outputs)
    while ahead:
        node = made_by.get(ahead.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.name in weighted:
            last.add(node.name)
        else:
            ahead += node.input
    return [node.name for node in products if node.name not in weighted or node.name in last]
