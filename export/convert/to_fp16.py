"""A pack's fp32 graph in half precision: half weights and activations, uint8 in and fp32 out as before.

What loses digits in half stays in fp32: normalisation, softmax, sums over many cells, exponentials, the choice of
the best queries. CUDA reads the precision from the graph. TensorRT 10 builds a weakly typed network of it under ONNX
Runtime: it wants `trt_fp16_enable`, and may then run in half what is fp32 here, so the golden outputs decide.
"""

from __future__ import annotations

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

# LayerNorm and softmax subtract a mean or a maximum; a sum or a square over a whole map leaves the range of a half
# (65504); ties that rounding makes would let TopK choose other queries than the fp32 graph chose.
KEPT_IN_FP32 = (
    "LayerNormalization",
    "Softmax",
    "Exp",
    "Log",
    "Pow",
    "ReduceSum",
    "ReduceMean",
    "ReduceL2",
    "Div",
    "TopK",
    "Resize",  # the CPU provider has no half kernel, and the shape inference behind it none either
)


def to_fp16(graph: bytes) -> bytes:
    """The serialised graph with half-precision weights; inputs and outputs keep their types."""
    model = convert_float_to_float16(
        onnx.load_model_from_string(graph), keep_io_types=True, op_block_list=list(KEPT_IN_FP32)
    )
    # Two nodes that stay in fp32 and read one tensor get the same cast twice; ONNX wants every name made once.
    once = {node.output[0]: node for node in reversed(model.graph.node)}
    del model.graph.node[:]
    model.graph.node.extend(once.values())
    del model.graph.value_info[:]  # types as they were; the checker infers them anew
    ordered = OnnxModel(model)
    ordered.topological_sort()  # the converter puts its casts at the end, and ONNX wants nodes in order
    onnx.checker.check_model(ordered.model, full_check=True)
    data: bytes = ordered.model.SerializeToString()
    return data
