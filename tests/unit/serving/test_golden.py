"""Golden outputs of maps: a few cells of each are enough to tell a graph that computes something else."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from services.common.serving.golden import Contract
from services.common.serving.modelpack import PackError, write_pack
from services.common.serving.providers import CPU
from services.common.serving.session import Choice, open_pack
from services.common.serving.tensors import dump
from tests.packs import manifest

_SIZE = 4


def _map_graph(factor: float) -> bytes:
    """crops uint8 [B, 4, 4, 3] -> map: the sum of its colours times `factor`, [B, 4, 4]."""
    given = helper.make_tensor_value_info("crops", TensorProto.UINT8, ["B", _SIZE, _SIZE, 3])
    out = helper.make_tensor_value_info("map", TensorProto.FLOAT, ["B", _SIZE, _SIZE])
    weights = [
        helper.make_tensor("axes", TensorProto.INT64, [1], [3]),
        helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor]),
    ]
    nodes = [
        helper.make_node("Cast", ["crops"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "factor"], ["map"]),
    ]
    graph = helper.make_graph(nodes, "g", [given], [out], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(("factor", "right"), [(2.0, True), (2.01, False)])
def test_golden_maps_may_hold_every_second_row_and_column_only(tmp_path: Path, factor: float, right: bool) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (1, _SIZE, _SIZE, 3), np.uint8)
    whole = ort.InferenceSession(_map_graph(2.0), providers=[CPU]).run(None, {"crops": crops})[0]
    recorded = dump({"crops": crops, "map": np.ascontiguousarray(whole[..., ::2, ::2])})
    files = {"fp32": _map_graph(factor), "golden": recorded}
    pack = write_pack(tmp_path, manifest("classify", "map", size=_SIZE), files)
    with nullcontext() if right else pytest.raises(PackError, match="map differs"):
        open_pack(pack, Contract("crops", ("map",)), Choice(provider="cpu"))
