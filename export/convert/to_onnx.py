"""PyTorch to ONNX: the dynamo exporter, opset 20, a dynamic batch that is proved at 1, 3 and 8.

An example batch of one freezes the batch axis without a word, so the example has two; and what was exported is run in
ONNX Runtime's plain CPU provider and compared before anything is written.
"""

from __future__ import annotations

import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

OPSET = 20
BATCHES = (1, 3, 8)


class ParityError(RuntimeError):
    """The exported graph does not compute what the model computes."""


def to_onnx(model: nn.Module, sample: Tensor, name: str, outputs: tuple[str, ...], *, tolerance: float = 1e-3) -> bytes:
    """The serialised graph of `model`, whose one input `name` looks like `sample` [n >= 8, ...].

    `tolerance`: largest |difference| allowed on any output, at every batch of BATCHES. Raises ParityError.
    """
    model = model.eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            model,
            (sample[:2],),
            path,
            input_names=[name],
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            verbose=False,
        )
        data = _without_traces(path.read_bytes())
    for n in BATCHES:
        with torch.no_grad():
            wanted = [t.numpy() for t in model(sample[:n])]
        given = run(data, {name: sample[:n].numpy()})
        for output, a, b in zip(outputs, wanted, given, strict=True):
            worst = float(np.abs(a - b).max())
            if a.shape != b.shape or not worst <= tolerance:
                raise ParityError(
                    f"{output} at batch {n}: shape {a.shape} became {b.shape}, largest difference {worst:.2g}"
                )
    return data


def _without_traces(data: bytes) -> bytes:
    """The graph without the exporter's notes, which name source files by their paths on this machine."""
    model = onnx.load_model_from_string(data)
    del model.metadata_props[:]
    for thing in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del thing.metadata_props[:]
        thing.doc_string = ""
    for weight in model.graph.initializer:
        del weight.metadata_props[:]
    return bytes(model.SerializeToString())


def session(data: bytes, threads: int = 0) -> ort.InferenceSession:
    """A session on the plain CPU provider. `threads` 0 leaves the choice to ONNX Runtime."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(data: bytes, inputs: dict[str, NDArray[np.generic]]) -> list[NDArray[np.float32]]:
    result: list[NDArray[np.float32]] = session(data).run(None, inputs)
    return result
