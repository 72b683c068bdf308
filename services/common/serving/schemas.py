"""Wire schemas between the rooms. Arrays travel as safetensors (see `tensors.py`), everything else as JSON.

Geometry: boxes are [x0, y0, x1, y1] and polygons [[x, y], ...], normalised to [0, 1] in the upright photo; masks are
COCO compressed RLE on the grid that `size` states, which covers the whole photo.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from services.common.vision.size import SizeClass
from services.common.vision.vocabulary import Vocabulary


class Wire(BaseModel):
    """Base of everything on the wire: unknown fields are an error between our own services."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


Box = tuple[float, float, float, float]
Source = Literal["training", "human", "model"]  # of a label


class Mask(Wire):
    """COCO compressed run-length encoding on a [height, width] grid over the whole photo."""

    size: tuple[int, int]
    counts: str


class ModelRef(Wire):
    """Which model answered, exactly: enough to replay the answer later."""

    name: str
    version: str
    sha256: str  # of the ONNX file that ran
    precision: str  # fp32 | fp16 | int8
    provider: str  # the ONNX Runtime provider that ran it, e.g. "OpenVINOExecutionProvider"


class Scored(Wire):
    label: str
    score: float


class Instance(Wire):
    """One segmented thing. `labels` holds the alternatives, best first; `label` is the first of them."""

    kind: Literal["damage", "fake", "part"]
    label: str
    score: float = Field(ge=0, le=1)
    labels: list[Scored] = Field(min_length=1)
    fake_score: float = Field(default=0, ge=0, le=1)  # damage only: how much it looks like a fake damage
    on: list[Scored] = []  # damage only: parts it lies on, likeliest first, and the share of it expected there
    box: Box
    mask: Mask


class Segmentation(Wire):
    """The segmenter's answer for one photo; damages and fakes first, by score, then parts."""

    model: ModelRef
    instances: list[Instance]
    vehicle: float = Field(default=1.0, ge=0, le=1)  # share of the photo that any part covers


@dataclass(frozen=True)
class Classification:
    """The classifier's answer for n crops, row by row, float32; its arrays travel as safetensors, not as JSON."""

    model: ModelRef
    logits: NDArray[np.float32]  # [n, classes]
    gates: NDArray[np.float32]  # [n, 5], softmax over the experts
    embedding: NDArray[np.float32]  # [n, d], L2-normalised


class Neighbour(Wire):
    """One past case: cosine distance in [0, 2], its label and where that label came from.

    The `id` of a case that a person labelled is the one it was added under.
    """

    # Findings keep their neighbours for ever: those of an earlier release may have said more.
    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    id: str
    label: str
    distance: float
    source: Source
    size: SizeClass | None = None
    part: str | None = None


class Case(Wire):
    """A labelled crop that the memory is to keep; its embedding travels beside it.

    `id` is chosen by the sender, unique for all time: the same case sent again changes nothing. Of `claim_id` only a
    hash is kept, which is enough to leave a claim's own crops out of its answers.
    """

    id: str = Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9_.-]+$")
    label: str = Field(max_length=64)
    claim_id: str = Field(min_length=1, max_length=80)
    source: Literal["human", "model"] = "human"
    size: SizeClass | None = None
    part: str | None = Field(None, max_length=64)
    reviewer: str | None = Field(None, max_length=120)


class Kept(Wire):
    """What became of a case: `kept` votes from now on; `known` says the same as `same_as`, which votes for both."""

    id: str
    outcome: Literal["kept", "known"]
    same_as: str | None = None


class Snapshot(Wire):
    """A copy of all cases that were added, retracted ones included. Training cases come from the memory pack."""

    name: str
    cases: int
    created_at: int  # ms since 1970, UTC


class Guard(Wire):
    """The frozen regression set: how many of its crops are answered right, with the pack alone and with the cases."""

    crops: int
    right_before: int
    right_now: int


class MemoryStats(Wire):
    """What the memory holds for one tenant, and how it searches."""

    backbone: str
    training: int  # cases of the memory pack, which every tenant sees
    cases: dict[str, int]  # the tenant's own living cases by label
    retracted: int
    guard: Guard | None
    search: Literal["exact", "chromadb"]  # of a search without a filter
    indexed: int  # living cases in the ChromaDB index
    snapshots: list[Snapshot]


class ModelInfo(Wire):
    """`GET /v1/info` of a model service: what runs here, on what, and how to read its numbers."""

    service: str
    model: ModelRef
    state: Literal["loading", "warming", "ready", "failed"]
    providers: list[str]  # in the order ONNX Runtime really uses them
    vocabulary: Vocabulary
    names_hash: str
    supported: dict[str, list[str]]  # per group (damages, fakes, parts, coarse, classes): names a photo taught
    input_height: int
    input_width: int
    resize: Literal["stretch", "pad"]
    context: float = 0.0  # share of the box added around a crop (classifier)
    backbone: str = ""  # sha256 over backbone weights + preprocessing; binds the retrieval index
    embedding_dim: int = 0
    temperature: float = 1.0
    thresholds: dict[str, float] = {}
    max_batch: int = 8
    notes: str = ""


class PackState(Wire):
    """One version of a pack, as a model service sees it; `there` lies in the folder and is not loaded."""

    version: str
    state: str  # there | loading | building_engine | warming | ready | failed | stalled | failing
    detail: str = ""
    own: bool  # the one that the service's settings name, served where nobody names another


class RetrievalInfo(Wire):
    service: str = "retrieval"
    state: Literal["loading", "ready", "failed"]
    backbone: str
    embedding_dim: int
    rows: int
    notes: str = ""
