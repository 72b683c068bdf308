"""The public API's schema: what a client of `/v1` sees.

Geometry is normalised to [0, 1] in the upright photo whose width and height stand beside it: boxes are
[x0, y0, x1, y1], polygons [[x, y], ...]. Times are RFC 3339 in UTC. Scores and shares are in [0, 1].
Fields and enum values may be added within /v1; a client treats a status it does not know as not final.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.common.serving.schemas import Box, Mask, ModelRef, Neighbour

ClaimStatus = Literal["queued", "processing", "succeeded", "failed", "canceled", "expired"]
PhotoStatus = Literal["queued", "succeeded", "failed", "canceled", "rejected"]
Route = Literal["auto", "review"]
Size = Literal["small", "medium", "large"]
Side = Literal["left", "right", "center"]
View = Literal[
    "front",
    "front_left",
    "left",
    "rear_left",
    "rear",
    "rear_right",
    "right",
    "front_right",
    "closeup",
    "interior",
    "vin",
    "odometer",
]
Action = Literal["accept", "correct", "reject", "add"]
ClaimAction = Literal["accept", "reject", "ask"]

_PRINTABLE = r"^[^\x00-\x1f\x7f]+$"


class Api(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Reason(Api):
    """Why a person should look: `code` for programs, `text` for people."""

    code: str
    text: str


class Error(Api):
    """Why a photo or a claim failed; the members of a problem document (RFC 9457) that make sense inside another."""

    type: str
    title: str
    status: int
    detail: str


class Alternative(Api):
    """What else the segmenter thought a damage could be; `score` is that name's probability."""

    label: str
    display: str
    score: float


class Part(Api):
    """A vehicle part. `share` is how much of the damage lies on it (in a finding) or of the photo it covers."""

    name: str
    display: str
    side: Side | None = Field(description="The vehicle's own left or right; null where nothing tells")
    share: float


class SeenPart(Part):
    """A part that the photo shows."""

    score: float
    box: Box


class Fake(Api):
    """How much a damage looks like something that is none: mud, a reflection, a design crease.

    `label` is there where a look-alike that the segmenter found lies under the damage.
    """

    label: str | None = None
    display: str | None = None
    score: float


class Lookalike(Api):
    """Something that looks like damage, is none, and was not taken for one."""

    label: str
    display: str
    score: float
    box: Box
    mask: Mask


class Opinion(Api):
    """The classifier's second opinion on the damage, calibrated.

    `source` says who decided: `model` (sure enough alone), `blended` (with similar past cases) or `review` (neither
    was sure). `gates` is the share each of the five experts had in the answer.
    """

    label: str
    confidence: float
    probabilities: dict[str, float]
    source: Literal["model", "blended", "review"]
    agrees: bool = Field(description="Whether it names the same thing as the finding's damage")
    gates: list[float]


class Reviewed(Api):
    """A person's decision. `before` is what the models had said: their `damage`, its `display` and their `part`."""

    id: str
    action: Action
    at: datetime
    reviewer: str | None
    before: dict[str, Any]


class ClaimReviewed(Api):
    """A person's decision about the claim as a whole: what no finding stands for, as `no_damage` and `photo_failed`.

    `accept`: it is as it seems, nothing is missing. `reject`: that cannot stand. `ask`: a better photo is wanted.
    `note` says what is wrong or wanted.
    """

    id: str
    action: ClaimAction
    at: datetime
    reviewer: str | None
    note: str | None = None


class Finding(Api):
    """One damage on one photo.

    `damage` is the segmenter's name. `damage_score` says how sure the segmenter is that a damage is there at all,
    `name_probability` how sure it is of this name and not one of the `alternatives`. `confidence` is the calibrated
    probability that the second opinion gives to that same damage; where no class of the classifier means it, the
    segmenter's score.
    To show a finding in one line, use `title` and `title_confidence`: they are `display` and `confidence` where both
    opinions agree, and otherwise "Missing part or lamp broken" and the probability that it is one of the two.
    """

    id: str
    source: Literal["model", "human"] = Field("model", description="`human`: a person drew it; models had missed it")
    damage: str
    display: str
    title: str = Field(description="The finding's name, and the second opinion's where it is another")
    title_confidence: float = Field(description="Calibrated probability that the title is right")
    damage_score: float
    name_probability: float
    alternatives: list[Alternative] = []
    opinion: Opinion
    part: Part | None
    second_part: Part | None
    box: Box
    mask: Mask
    polygons: list[list[tuple[float, float]]]
    area_share: float = Field(description="Share of the photo that the mask covers")
    size: Size
    fake: Fake
    neighbours: list[Neighbour] = []
    confidence: float
    route: Route
    reasons: list[Reason]
    review: Reviewed | None = Field(
        None, description="What a person decided; damage and part are then theirs, and `reject` means: no damage"
    )


class Vehicle(Api):
    """The vehicle, as far as the caller says; nothing here is looked at."""

    make: str | None = Field(None, min_length=1, max_length=100, pattern=_PRINTABLE)
    model: str | None = Field(None, min_length=1, max_length=100, pattern=_PRINTABLE)
    year: int | None = Field(None, ge=1886, le=2100, strict=True)
    vin: str | None = Field(None, pattern=r"^[A-HJ-NPR-Z0-9]{17}$", description="ISO 3779, capital letters")


class Photo(Api):
    """One photo of a claim. `width` and `height` are those of the upright photo as it was looked at."""

    id: str
    status: PhotoStatus
    view: View | None = Field(None, description="What it shows, as the caller says")
    cached: bool = Field(False, description="The same bytes were assessed before, and what was found then stands")
    sha256: str | None
    bytes: int
    width: int | None = None
    height: int | None = None
    vehicle: float | None = Field(None, description="Share of the photo that any part covers")
    findings: list[Finding] = []
    parts: list[SeenPart] = []
    lookalikes: list[Lookalike] = []
    reasons: list[Reason] = []
    timings_ms: dict[str, float] = {}
    error: Error | None = None
    links: dict[str, str] = {}


class DamagedPart(Api):
    """All photos' findings on one part, together."""

    name: str
    display: str
    side: Side | None
    damages: list[str]
    findings: list[str] = Field(description="Ids of the findings")
    confidence: float = Field(description="The highest of its findings")


class Summary(Api):
    """The claim in a few words: where it should go, why, and which parts are damaged."""

    route: Route
    reasons: list[Reason]
    parts: list[DamagedPart]
    findings: int
    review: ClaimReviewed | None = Field(None, description="What a person decided about the claim as a whole")


class Progress(Api):
    done: int
    total: int


class QueuePlace(Api):
    position: int = Field(description="Claims before this one")


class ClaimItem(Api):
    """A claim without its photos, as lists show it."""

    id: str
    object: Literal["claim"] = "claim"
    status: ClaimStatus
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    expires_at: datetime | None = Field(
        None, description="Its deadline: what is not concluded by then ends `expired`; null where there is none"
    )
    external_ref: str | None = None
    metadata: dict[str, Any] = {}
    vehicle: Vehicle | None = None
    partial: bool = Field(description="Some photos failed and the rest was assessed")
    summary: Summary | None = None
    error: Error | None = None
    links: dict[str, str]


class Claim(ClaimItem):
    """A claim with everything known so far; photos appear with their findings as each is done."""

    progress: Progress
    queue: QueuePlace | None = None
    photos: list[Photo]
    models: dict[str, ModelRef] = {}
    timings_ms: dict[str, float] = {}


class ClaimList(Api):
    object: Literal["list"] = "list"
    data: list[ClaimItem]
    next_page_token: str | None = None
