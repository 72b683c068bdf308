"""Tiny but real packs for tests: ONNX graphs made of colour arithmetic, so that what they answer can be foretold.

Segmenter: bright pixels are `left_door`, greenish ones `right_door`; a red patch is a `dent`, a blue patch the fake
`reflection`. Classifier: red crops are `dent`, green `scratch`, blue `broken_part`; grey ones leave it unsure.
Memory: past cases around the embeddings of those three colours. No torch, no training, written in well under a second.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from services.common.serving.modelpack import DataSource, Input, Manifest, write_pack
from services.common.serving.tensors import dump
from services.common.vision.vocabulary import Coarse, Damage, Fake, Part, Vocabulary

SEGMENT_SIZE = 64  # px, both sides of the photo; masks are a quarter of it
CROP_SIZE = 32  # px
EMBEDDING_DIM = 8
OPSET = 20
COLOURS = {"dent": (220, 30, 30), "scratch": (30, 220, 30), "broken_part": (30, 30, 220)}  # RGB

VOCABULARY = Vocabulary(
    damages=(
        Damage(name="dent", display="Dent", agrees=("dent",)),
        Damage(name="scratch", display="Scratch", agrees=("scratch",)),
        Damage(name="missingpart", display="Missing part", agrees=("broken_part",)),
    ),
    fakes=(Fake(name="reflection", display="Reflection"), Fake(name="dirt", display="Dirt")),
    parts=(
        Part(name="left_door", display="Left door", side="left", mirror="right_door", damages=("dent", "scratch")),
        Part(name="right_door", display="Right door", side="right", mirror="left_door", damages=("dent", "scratch")),
        Part(name="hood", display="Hood", damages=("dent", "scratch", "missingpart")),
    ),
    coarse=(Coarse(name="door", display="Door", members=("left_door", "right_door")),),
    classes=("dent", "scratch", "broken_part"),
)
BACKBONE = hashlib.sha256(b"mean colour").hexdigest()

_RNG = np.random.default_rng(7)
_TO_CLASSES = 12 * (np.eye(3, dtype=np.float32) - 1 / 3)  # [3 colours, 3 classes]
_TO_GATES = _RNG.normal(size=(3, 5)).astype(np.float32)
_TO_EMBEDDING = _RNG.normal(size=(3, EMBEDDING_DIM)).astype(np.float32)


class _Graph:
    """Collects nodes and weights; every method answers the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def const(self, value: object, dtype: type[np.generic] = np.float32) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def __call__(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def model(self, given: tuple[str, list[str | int]], outputs: dict[str, list[str | int]]) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            "test",
            [helper.make_tensor_value_info(given[0], TensorProto.UINT8, given[1])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
        data: bytes = model.SerializeToString()
        return data


def segment_graph(size: int = SEGMENT_SIZE) -> bytes:
    """The segment contract of docs/architecture.md: three queries, masks by colour."""
    grid, batch = size // 4, "B"
    damages, fakes, parts = len(VOCABULARY.damages), len(VOCABULARY.fakes), len(VOCABULARY.parts)
    g = _Graph()
    pixels = g("Div", g("Cast", "photo", to=TensorProto.FLOAT), g.const(255))
    planes = g("AveragePool", g("Transpose", pixels, perm=[0, 3, 1, 2]), kernel_shape=[4, 4], strides=[4, 4])

    def by_colour(rows: list[tuple[float, float, float]], bias: list[float], name: str = "") -> str:
        kernel = np.asarray(rows, np.float32)[:, :, None, None]
        return g("Conv", planes, g.const(kernel), g.const(bias), name=name)

    red, blue, nothing = (20.0, -10.0, -10.0), (-10.0, -10.0, 20.0), (0.0, 0.0, 0.0)
    masks = by_colour([red, blue, nothing], [-6, -6, -9], "mask_logits")
    peak = g("ReduceMax", masks, g.const([2, 3], np.int64), keepdims=0)
    seen = g("Clip", peak, g.const(-8), g.const(8), name="objectness")
    zero = g("Mul", seen, g.const(0))
    g("Add", zero, g.const(3), name="iou")
    column = g("Unsqueeze", zero, g.const([2], np.int64))
    # query 0 (red) says the first damage, query 1 (blue) the first fake, query 2 says nothing
    g("Add", column, g.const(_says(3, damages, query=0)), name="damage_logits")
    g("Add", column, g.const(_says(3, fakes, query=1)), name="fake_logits")
    grey, green = (4.0, 4.0, 4.0), (-10.0, 20.0, -10.0)
    by_colour([nothing, grey, green, nothing], [0, -2, -4, -9], "part_logits")
    g("Squeeze", by_colour([red], [-6]), g.const([1], np.int64), name="damaged_logits")
    return g.model(
        ("photo", [batch, size, size, 3]),
        {
            "mask_logits": [batch, 3, grid, grid],
            "objectness": [batch, 3],
            "iou": [batch, 3],
            "damage_logits": [batch, 3, damages],
            "fake_logits": [batch, 3, fakes],
            "part_logits": [batch, 1 + parts, grid, grid],
            "damaged_logits": [batch, grid, grid],
        },
    )


def classify_graph(size: int = CROP_SIZE) -> bytes:
    """The classify contract: a linear head on the mean colour."""
    g = _Graph()
    pixels = g("Div", g("Cast", "crops", to=TensorProto.FLOAT), g.const(255))
    colour = g("ReduceMean", pixels, g.const([1, 2], np.int64), keepdims=0)
    g("MatMul", colour, g.const(_TO_CLASSES), name="logits")
    g("Softmax", g("MatMul", colour, g.const(_TO_GATES)), name="gates", axis=1)
    raw = g("MatMul", colour, g.const(_TO_EMBEDDING))
    length = g("ReduceL2", raw, g.const([1], np.int64), keepdims=1)
    g("Div", raw, g("Max", length, g.const(1e-6)), name="embedding")
    return g.model(
        ("crops", ["B", size, size, 3]),
        {"logits": ["B", len(VOCABULARY.classes)], "gates": ["B", 5], "embedding": ["B", EMBEDDING_DIM]},
    )


def embedding_of(colour: tuple[int, int, int]) -> NDArray[np.float32]:
    """float32 [d]: what the classifier graph answers for a crop of one colour."""
    raw = np.asarray(colour, np.float32) / 255 @ _TO_EMBEDDING
    return np.asarray(raw / np.linalg.norm(raw), np.float32)


def memory_rows(per_class: int = 20) -> dict[str, NDArray[np.generic]]:
    """Past cases scattered around the three colours, in the memory pack's layout."""
    centres = np.stack([embedding_of(COLOURS[name]) for name in VOCABULARY.classes])
    rng = np.random.default_rng(11)
    rows = np.repeat(centres, per_class, axis=0)
    rows = rows + rng.normal(scale=0.02, size=rows.shape).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    n = len(rows)
    return {
        "embedding": rows.astype(np.float16),
        "label": np.repeat(np.arange(len(centres), dtype=np.uint8), per_class),
        "size": rng.integers(0, 3, n).astype(np.uint8),
        "image": np.arange(n, dtype=np.int32),
    }


def golden(graph: bytes) -> bytes:
    """One input and what the plain CPU provider answers to it, as the pack's golden file."""
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    array = np.random.default_rng(3).integers(0, 256, (1, *given.shape[1:]), dtype=np.uint8)
    outputs = dict(zip([o.name for o in session.get_outputs()], session.run(None, {given.name: array}), strict=True))
    return dump({given.name: array, **outputs})


def manifest(task: str, name: str, *, version: str = "1", size: int = 1, **changes: Any) -> Manifest:
    """A valid manifest for `task`; `changes` replace fields."""
    fields: dict[str, object] = {
        "name": name,
        "version": version,
        "task": task,
        "created": "2026-01-01",
        "licence": "Apache-2.0",
        "notes": "colour arithmetic for tests",
        "vocabulary": VOCABULARY,
        "names_hash": VOCABULARY.names_hash(),
        "supported": {
            "damages": ["dent", "scratch"],
            "fakes": ["reflection"],
            "parts": ["hood"],
            "coarse": ["door"],
            "classes": ["dent", "scratch", "broken_part"],
        },
        "input": Input(height=size, width=size, resize="stretch"),
        "backbone": BACKBONE if task != "segment" else "",
        "embedding_dim": EMBEDDING_DIM if task != "segment" else 0,
        "data": [DataSource(name="colour arithmetic", photos=0, rights="none needed")],
        "files": {},
    }
    return Manifest.model_validate({**fields, **changes})


def write_segment_pack(folder: Path, **changes: Any) -> Path:
    graph = segment_graph()
    files = {"fp32": graph, "golden": golden(graph)}
    return write_pack(folder, manifest("segment", "albert", size=SEGMENT_SIZE, **changes), files).folder


def write_classify_pack(folder: Path, **changes: Any) -> Path:
    graph = classify_graph()
    files = {"fp32": graph, "golden": golden(graph)}
    return write_pack(folder, manifest("classify", "cropresmoe", size=CROP_SIZE, **changes), files).folder


def write_memory_pack(folder: Path, **changes: Any) -> Path:
    files = {"memory": dump(memory_rows())}
    return write_pack(folder, manifest("memory", "memory", **changes), files).folder


def write_test_packs(folder: Path) -> dict[str, Path]:
    """Write all three under `folder`; answers their version folders by task: segment, classify, memory."""
    return {
        "segment": write_segment_pack(folder / "albert" / "1"),
        "classify": write_classify_pack(folder / "cropresmoe" / "1"),
        "memory": write_memory_pack(folder / "memory" / "1"),
    }


def painted_photo(
    *patches: tuple[tuple[int, int, int], tuple[float, float, float, float]], height: int = 240, width: int = 320
) -> NDArray[np.uint8]:
    """uint8 [height, width, 3]: a grey car on black; each patch is (colour, normalised box x0 y0 x1 y1)."""
    photo = np.zeros((height, width, 3), np.uint8)
    for colour, (x0, y0, x1, y1) in (((140, 140, 140), (0.1, 0.1, 0.9, 0.9)), *patches):
        photo[round(y0 * height) : round(y1 * height), round(x0 * width) : round(x1 * width)] = colour
    return photo


def _says(queries: int, labels: int, *, query: int) -> NDArray[np.float32]:
    """float32 [1, queries, labels]: strongly the first label for `query`, nothing for the others."""
    logits = np.full((1, queries, labels), -6, np.float32)
    logits[0, query, 0] = 6
    return logits
