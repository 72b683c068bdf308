"""What a client of `/v1/reviews` sends and sees."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from services.common.serving.schemas import Box, Neighbour
from services.gateway.schemas import Action, Api, Finding, Photo, Reason, Side

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,64}$")]
Reviewer = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^\x00-\x1f\x7f]{1,80}$")]
Lease = Annotated[str, StringConstraints(pattern=r"^lse_[0-9A-Z]{26}$")]

_LEASE = "lse_01M8E5Y7Q2Z4T6V8X0A1B2C3D4"
_WHO = "who is reviewing, as people should read it; recorded beside the key"


def _example(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example]})


class Who(Api):
    """`reviewer` is what the person calls herself; the key, where there is one, proves who it was."""

    model_config = _example({"reviewer": "Ada"})

    reviewer: Reviewer | None = Field(None, description=_WHO)


class Take(Who):
    model_config = _example({"reviewer": "Ada", "lease": _LEASE})

    lease: Lease | None = Field(None, description="the lease to be prolonged")


class Release(Api):
    model_config = _example({"lease": _LEASE})

    lease: Lease


class Verdict(Who):
    """`accept` confirms damage and part as they stand, `reject` says that it is no damage, `correct` names another.

    `side` is for parts whose name does not say it ("Wheel").
    """

    model_config = _example(
        {"action": "correct", "damage": "scratch", "part": "front_left_door", "lease": _LEASE, "reviewer": "Ada"}
    )

    action: Action
    damage: Name | None = Field(None, description="a damage of the vocabulary (`GET /v1/models`); correct only")
    part: Name | None = Field(None, description="a part of the vocabulary; correct only")
    side: Side | None = None
    lease: Lease | None = Field(None, description="what holding the case was answered with")

    @model_validator(mode="after")
    def _fits(self) -> Verdict:
        named = [self.damage, self.part, self.side]
        if self.action == "correct" and not any(named):
            raise ValueError("a correction names a damage, a part or a side")
        if self.action != "correct" and any(named):
            raise ValueError(f"only `correct` takes a damage, a part or a side, not `{self.action}`")
        return self


class Signals(Api):
    """Why it comes so early in the queue: `score` is the mean of the three signals, each in [0, 1]."""

    score: float
    uncertainty: float = Field(description="Entropy of the second opinion over its maximum")
    disagreement: float = Field(description="What the second opinion gives to another damage than the first")
    novelty: float = Field(description="Distance to the nearest past case, where the memory was asked")


class Holder(Api):
    by: str
    until: datetime


class ClaimOfCase(Api):
    id: str
    external_ref: str | None
    created_at: datetime
    reasons: list[Reason] = Field(description="Why the whole claim goes to review")


class Case(Api):
    """A finding that waits for a person, or was decided by one. The ETag of the answer is its `version`."""

    object: Literal["review_case"] = "review_case"
    finding_id: str
    state: Literal["open", "done"]
    version: int
    informative: Signals
    held: Holder | None = Field(description="Who has it open; null where nobody does")
    claim: ClaimOfCase
    photo: Photo
    finding: Finding
    crop: Box = Field(description="What `crop.webp` shows: the damage with its surroundings")
    memory: Literal["none", "wanted", "kept", "refused", "unwanted", "gone"] = Field(
        description="Whether the memory of past cases learned the standing decision; `wanted`: it will, once it can"
    )
    memory_note: str | None = None
    links: dict[str, str]


class HeldCase(Case):
    """A case that the caller holds until `held.until`."""

    lease: Lease = Field(examples=[_LEASE])


class Waiting(Api):
    """A case as the queue lists it."""

    finding_id: str
    claim_id: str
    state: Literal["open", "done"]
    score: float
    skips: int
    version: int
    held: Holder | None
    links: dict[str, str]


class Queue(Api):
    object: Literal["list"] = "list"
    data: list[Waiting]
    next_page_token: str | None = None


class Progress(Api):
    """Decisions since `since` that stand, and what still waits."""

    model_config = _example(
        {"since": "2026-11-21T00:00:00Z", "accept": 31, "correct": 12, "reject": 9, "done": 52, "open": 118}
    )

    since: datetime
    accept: int = 0
    correct: int = 0
    reject: int = 0
    done: int
    open: int


class PastCase(Neighbour):
    """A past case; `picture` is there where it is a reviewed crop of one's own."""

    picture: str | None = None


class PastCases(Api):
    object: Literal["list"] = "list"
    data: list[PastCase]


class Decided(Api):
    """One decision of the past. `before` and `after` hold what the API showed."""

    id: str
    action: Action
    at: datetime
    reviewer: str | None
    key_id: str | None
    before: dict[str, Any]
    after: dict[str, Any]
    undone_at: datetime | None
    undone_by: str | None
    label: str | None = Field(description="The class that the memory was to learn")
    memory: str
    memory_note: str | None = None


class History(Api):
    object: Literal["list"] = "list"
    data: list[Decided]
