"""Model packs: `models/<name>/<version>/manifest.json` beside ONNX and safetensors files.

A pack is data, never code: files are named by the manifest, must lie inside the pack folder, must not be links, and
their SHA-256 is checked before anything parses them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from services.common.vision.vocabulary import Vocabulary


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class PackFile(_Entry):
    path: str  # relative to the manifest
    sha256: str
    bytes: int


class Metric(_Entry):
    """One measured number: never without n, an interval where one exists, its command and its date."""

    name: str
    value: float
    n: int
    ci95: tuple[float, float] | None = None
    split: str
    command: str
    date: str


class DataSource(_Entry):
    name: str
    photos: int
    rights: str
    url: str = ""


class Input(_Entry):
    height: int
    width: int
    resize: Literal["stretch", "pad"]
    context: float = 0.0  # share of the box's longer side added around a crop


class Manifest(_Entry):
    format: Literal[1] = 1
    name: str
    version: str
    task: Literal["segment", "classify", "memory"]
    created: str
    licence: str
    notes: str = ""
    vocabulary: Vocabulary
    names_hash: str
    supported: dict[str, list[str]]  # damages | fakes | parts | coarse | classes -> names that real photos taught
    input: Input
    backbone: str = ""  # sha256 over backbone weights + preprocessing
    embedding_dim: int = 0
    temperature: float = 1.0
    thresholds: dict[str, float] = {}
    max_batch: int = 8
    files: dict[str, PackFile]  # fp32 | fp16 | int8 | golden | memory
    tolerance: float = 1e-3  # largest |difference| to the golden outputs on the CPU provider
    metrics: list[Metric] = []
    data: list[DataSource] = []
