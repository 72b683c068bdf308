"""Model services that answer by colour and can be told to fail."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from services.common.serving.errors import InvalidRequest, NotFound, Problem
from services.common.serving.schemas import (
    Case,
    Classification,
    Instance,
    Kept,
    MemoryStats,
    ModelInfo,
    ModelRef,
    Neighbour,
    PackState,
    RetrievalInfo,
    Scored,
    Segmentation,
    Snapshot,
    Source,
)
from services.common.serving.schemas import Mask as WireMask
from services.common.vision import masks
from services.common.vision.vocabulary import Coarse, Damage, Fake, Part, Vocabulary
from services.gateway.assessment.clients import Clients

VOCABULARY = Vocabulary(
    damages=(
        Damage(name="dent", display="Dent", agrees=("dent",)),
        Damage(name="scratch", display="Scratch", agrees=("scratch",)),
        Damage(name="rust", display="Rust"),
    ),
    fakes=(Fake(name="fakemud", display="Mud"),),
    parts=(
        Part(name="front_left_door", display="Front left door", side="left", damages=("dent", "scratch", "rust")),
        Part(name="windshield", display="Windshield", damages=("scratch",)),
    ),
    coarse=(Coarse(name="door", display="Door", members=("front_left_door",)),),
    classes=("dent", "scratch", "tire_flat"),
)
BACKBONE = "b" * 64
GRID = 32  # cells of a mask, both sides


def ref(name: str) -> ModelRef:
    return ModelRef(name=name, version="1", sha256="0" * 64, precision="fp32", provider="CPUExecutionProvider")


def info(service: str, vocabulary: Vocabulary = VOCABULARY) -> ModelInfo:
    return ModelInfo(
        service=service,
        model=ref(service),
        state="ready",
        providers=["CPUExecutionProvider"],
        vocabulary=vocabulary,
        names_hash=vocabulary.names_hash(),
        supported={"classes": ["dent", "scratch"]},
        input_height=16,
        input_width=16,
        resize="pad",
        backbone=BACKBONE,
        embedding_dim=3,
    )


def instance(kind: str, label: str, mask: NDArray[np.bool_], score: float = 0.9, fake_score: float = 0.0) -> Instance:
    size, counts = masks.encode(mask)
    return Instance.model_validate(
        {
            "kind": kind,
            "label": label,
            "score": score,
            "labels": [Scored(label=label, score=score)],
            "fake_score": fake_score,
            "box": masks.tight_box(mask),
            "mask": WireMask(size=size, counts=counts),
        }
    )


def placed(instances: list[Instance]) -> list[Instance]:
    """Damages with the shares of their masks on the parts, as a segmenter that is sure of its parts would say."""
    grids = [masks.decode(each.mask.size, each.mask.counts) for each in instances]
    parts = [(part.label, grid) for part, grid in zip(instances, grids, strict=True) if part.kind == "part"]
    said = []
    for each, grid in zip(instances, grids, strict=True):
        shares = [Scored(label=label, score=float((grid & part).sum() / grid.sum())) for label, part in parts]
        ranked = sorted((share for share in shares if share.score), key=lambda share: -share.score)
        said.append(each.model_copy(update={"on": [] if each.kind == "part" else ranked}))
    return said


def _there(version: str) -> PackState:
    return PackState(version=version, state="there", own=False)


@dataclass
class FakeService:
    """`problem` is raised instead of an answer; `delay_s` passes before each. `others` answer for other packs.

    What must happen while a model works is tested with `hold`: any delay is too short for some machine.
    """

    problem: Problem | None = None
    delay_s: float = 0
    gate: asyncio.Event | None = None
    free: int = 0
    calls: int = 0
    pack: str | None = None
    others: dict[str, Any] = field(default_factory=dict)

    def at(self, pack: str | None) -> Self:
        found: Self = self if pack is None else self.others.get(pack, self)
        return found

    async def packs(self) -> list[PackState]:
        return [PackState(version="1", state="ready", own=True), *(_there(version) for version in self.others)]

    def hold(self, *, after: int = 0) -> asyncio.Event:
        """From now on answers, but for the first `after`, wait until the event is set."""
        self.gate, self.free = asyncio.Event(), self.calls + after
        return self.gate

    async def answer(self) -> None:
        self.calls += 1
        if self.gate is not None and self.calls > self.free:
            await self.gate.wait()
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.problem is not None:
            raise self.problem


@dataclass
class FakeSegmenter(FakeService):
    """Red is a dent, blue is mud; everything bright is the door, everything dark no vehicle at all."""

    told: ModelInfo = field(default_factory=lambda: info("segmenter"))
    extra: list[Instance] = field(default_factory=list)
    fake_score: float = 0.05

    async def info(self, *, fresh: bool = False) -> ModelInfo:
        if self.problem is not None:
            raise self.problem
        return self.told

    async def segment(self, pixels: NDArray[np.uint8]) -> Segmentation:
        await self.answer()
        rows, columns = (np.arange(GRID) * side // GRID for side in pixels.shape[:2])
        red, green, blue = np.moveaxis(pixels[rows][:, columns].astype(int), 2, 0)
        seen = [
            ("damage", "dent", (red > 150) & (green < 100) & (blue < 100)),
            ("fake", "fakemud", (blue > 150) & (red < 100) & (green < 100)),
            ("part", "front_left_door", red + green + blue > 200),
        ]
        found = [instance(kind, label, mask, fake_score=self.fake_score) for kind, label, mask in seen if mask.any()]
        instances = placed([*found, *self.extra])
        return Segmentation(model=ref("segmenter"), instances=instances, vehicle=float(seen[2][2].mean()))


@dataclass
class FakeClassifier(FakeService):
    """The same logits for every crop."""

    told: ModelInfo = field(default_factory=lambda: info("classifier"))
    logits: tuple[float, float, float] = (4.0, 0.0, 9.0)  # the last is of an unsupported class and must not count

    async def info(self, *, fresh: bool = False) -> ModelInfo:
        if self.problem is not None:
            raise self.problem
        return self.told

    async def classify(self, crops: NDArray[np.uint8]) -> Classification:
        await self.answer()
        n = len(crops)
        assert crops.shape == (n, 16, 16, 3)
        logits = np.tile(np.array(self.logits, np.float32), (n, 1))
        gates = np.full((n, 5), 0.2, np.float32)
        return Classification(ref("classifier"), logits, gates, np.tile(np.array([1, 0, 0], np.float32), (n, 1)))


@dataclass
class FakeRetrieval(FakeService):
    """The same neighbours for every embedding, and nearer ones that were added."""

    neighbours: tuple[tuple[str, float], ...] = ()
    source: Source = "training"
    backbone: str = BACKBONE
    asked: dict[str, object] = field(default_factory=dict)  # with what the last search was narrowed
    cases: dict[str, tuple[str, str]] = field(default_factory=dict)  # tenant and label of what was added

    async def info(self) -> RetrievalInfo:
        if self.problem is not None:
            raise self.problem
        return RetrievalInfo(state="ready", backbone=self.backbone, embedding_dim=3, rows=len(self.neighbours))

    async def search(
        self, embeddings: NDArray[np.float32], *, k: int, backbone: str | None = None, **asked: object
    ) -> list[list[Neighbour]]:
        await self.answer()
        if backbone not in (None, self.backbone):
            raise InvalidRequest("The memory holds the embeddings of another backbone.")
        self.asked = asked
        own = [(case_id, label) for case_id, (tenant, label) in self.cases.items() if tenant == asked.get("tenant")]
        found = [Neighbour(id=case_id, label=label, distance=0.01, source="human") for case_id, label in own]
        found += [
            Neighbour(id=f"m{i}", label=label, distance=distance, source=self.source)
            for i, (label, distance) in enumerate(self.neighbours)
        ]
        return [found[:k]] * len(embeddings)

    async def add(self, case: Case, embedding: NDArray[np.float32], *, tenant: str, backbone: str) -> Kept:
        await self.answer()
        self.cases[case.id] = (tenant, case.label)
        return Kept(id=case.id, outcome="kept")

    async def correct(self, case_id: str, label: str, *, tenant: str, reviewer: str | None = None) -> None:
        await self.answer()
        self.cases[case_id] = (tenant, label)

    async def retract(self, case_id: str, *, tenant: str, reviewer: str | None = None) -> None:
        await self.answer()
        if self.cases.pop(case_id, None) is None:
            raise NotFound("There is no such case")

    async def snapshot(self) -> Snapshot:
        raise NotImplementedError

    async def restore(self, name: str) -> Snapshot:
        raise NotImplementedError

    async def stats(self, *, tenant: str) -> MemoryStats:
        raise NotImplementedError


@dataclass
class Fakes:
    segmenter: FakeSegmenter = field(default_factory=FakeSegmenter)
    classifier: FakeClassifier = field(default_factory=FakeClassifier)
    retrieval: FakeRetrieval = field(default_factory=FakeRetrieval)

    @property
    def clients(self) -> Clients:
        return Clients(self.segmenter, self.classifier, self.retrieval)
