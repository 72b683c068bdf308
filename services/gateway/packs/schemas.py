"""What `/v1/packs` answers and takes."""

from __future__ import annotations

from pydantic import Field

from services.common.serving.schemas import ModelRef, PackState
from services.gateway.schemas import Api, Error, Finding


class Version(Api):
    version: str = Field(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


class Canary(Version):
    share: float = Field(gt=0, le=1, description="of the claims, chosen by their ids")


class ServicePacks(Api):
    """`active` answers claims; `candidate` sees `share` of them too, and its answers change nothing."""

    active: str | None
    previous: str | None = Field(description="What a rollback activates")
    candidate: str | None
    share: float
    versions: list[PackState]


class Packs(Api):
    segmenter: ServicePacks | Error
    classifier: ServicePacks | Error


class Latency(Api):
    """Milliseconds that the models of one pack took for a photo."""

    p50: float
    p95: float
    n: int


class Comparison(Api):
    """Photos that two packs have both looked at. A finding of one is the other's where their boxes overlap by half."""

    packs: str = Field(description="What answered, and what was tried beside it")
    claims: int
    photos: int
    errors: int = Field(description="Photos to which the candidate gave no answer")
    findings_active: int
    findings_candidate: int
    findings_both: int
    agreement: float | None = Field(description="2 x both / (active + candidate)")
    same_title: float | None = Field(description="Share of those of both that have the same title")
    same_route: float | None = Field(description="Share of the photos that go the same way")
    active_ms: Latency | None
    candidate_ms: Latency | None


class Comparisons(Api):
    data: list[Comparison]


class TrialAnswer(Api):
    """What the candidate said about one photo of the claim."""

    photo_id: str
    packs: str
    error: str | None
    findings: list[Finding]
    models: dict[str, ModelRef]


class TrialAnswers(Api):
    data: list[TrialAnswer]
