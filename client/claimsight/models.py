"""What the API answers, typed as far as a client needs it.

Members that a newer gateway adds are kept (`model_extra`) and never an error. Boxes are [x0, y0, x1, y1], normalised to
[0, 1] in the upright photo.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

FINAL = frozenset({"succeeded", "failed", "canceled", "expired"})  # any other status, known or not, may still change
Box = tuple[float, float, float, float]


class Answer(BaseModel):
    model_config = ConfigDict(extra="allow", protected_namespaces=())


class Error(Answer):
    type: str
    title: str
    status: int
    detail: str


class Reason(Answer):
    code: str
    text: str


class Part(Answer):
    name: str
    display: str
    side: str | None = None
    share: float


class Mask(Answer):
    """COCO compressed run lengths on a [height, width] grid: `pycocotools.mask.decode` reads it."""

    size: tuple[int, int]
    counts: str


class Finding(Answer):
    """One damage on one photo; `title` and `title_confidence` say it in one line."""

    id: str
    damage: str
    display: str
    title: str
    title_confidence: float
    damage_score: float
    part: Part | None = None
    box: Box
    mask: Mask
    size: str
    confidence: float
    route: str
    reasons: list[Reason] = []


class Photo(Answer):
    id: str
    status: str
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    findings: list[Finding] = []
    reasons: list[Reason] = []
    error: Error | None = None
    links: dict[str, str] = {}


class DamagedPart(Answer):
    name: str
    display: str
    side: str | None = None
    damages: list[str]
    confidence: float


class Summary(Answer):
    route: str
    reasons: list[Reason] = []
    parts: list[DamagedPart] = []
    findings: int = 0


class Progress(Answer):
    done: int
    total: int


class Job(Answer):
    """What claims and batches have in common."""

    id: str
    status: str
    created_at: datetime
    completed_at: datetime | None = None
    external_ref: str | None = None
    metadata: dict[str, Any] = {}
    progress: Progress | None = None
    error: Error | None = None
    links: dict[str, str] = {}

    @property
    def final(self) -> bool:
        return self.status in FINAL


class Claim(Job):
    partial: bool = False
    summary: Summary | None = None
    photos: list[Photo] = []

    @property
    def findings(self) -> list[Finding]:
        """All photos' findings, in the order of the photos."""
        return [finding for photo in self.photos for finding in photo.findings]


class BatchPart(Answer):
    """One archive that has arrived; `sha256` is that of the archive."""

    number: int
    sha256: str
    bytes: int
    photos: int


class Batch(Job):
    parts: list[BatchPart] = []
    failed: int = Field(0, description="Lines that ended with an error")


class PhotoCheck(Answer):
    """Whether a photo is worth sending; each of `issues` says in a sentence what to do better."""

    verdict: str
    issues: list[Reason] = []
    width: int | None = None
    height: int | None = None


class Models(Answer):
    segmenter: dict[str, Any]
    classifier: dict[str, Any]
    memory: dict[str, Any]


class PackVersion(Answer):
    """One version of a pack; `state` is `there` where it lies on the disk and is not loaded."""

    version: str
    state: str
    detail: str = ""


class ServicePacks(Answer):
    """`active` answers claims; `candidate` sees a `share` of the finished ones, and its answers change nothing."""

    active: str | None = None
    previous: str | None = None
    candidate: str | None = None
    share: float = 0
    versions: list[PackVersion] = []
    detail: str | None = Field(None, description="Why the service cannot be asked")


class Packs(Answer):
    segmenter: ServicePacks
    classifier: ServicePacks


class Latency(Answer):
    p50: float
    p95: float
    n: int


class Comparison(Answer):
    """Photos that two packs have both looked at."""

    packs: str
    claims: int
    photos: int
    errors: int
    findings_active: int
    findings_candidate: int
    findings_both: int
    agreement: float | None = None
    same_title: float | None = None
    same_route: float | None = None
    active_ms: Latency | None = None
    candidate_ms: Latency | None = None
