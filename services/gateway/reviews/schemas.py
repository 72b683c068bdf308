"""What a client of `/v1/reviews` sends and sees."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from services.common.serving.schemas import Box, Neighbour
from services.gateway.schemas import Action, Api, ClaimAction, ClaimReviewed, Finding, Photo, Reason, Side

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,64}$")]
Reviewer = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^\x00-\x1f\x7f]{1,80}$")]
Note = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^\x00-\x1f\x7f]{1,300}$")]
Lease = Annotated[str, StringConstraints(pattern=r"^lse_[0-9A-Z]{26}$")]

_LEASE = "lse_01M8E5Y7Q2Z4T6V8X0A1B2C3D4"
LEAST_SIDE = 0.005  # of the photo: a smaller box was a slip of the finger
_WHO = "who is reviewing, as people should read it; recorded beside the key"


State = Literal["open", "done", "gone"]


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

    `side` is for parts whose name does not say it ("Wheel"). Of a claim as a whole: `accept` agrees that nothing is
    missing, `reject` says that it cannot stand like this, `ask` wants a better photo.
    """

    model_config = _example(
        {"action": "correct", "damage": "scratch", "part": "front_left_door", "lease": _LEASE, "reviewer": "Ada"}
    )

    action: Literal["accept", "correct", "reject", "ask"]
    damage: Name | None = Field(None, description="a damage of the vocabulary (`GET /v1/models`); correct only")
    part: Name | None = Field(None, description="a part of the vocabulary; correct only")
    side: Side | None = None
    note: Note | None = Field(None, description="of a claim only: what to photograph, or what is wrong")
    lease: Lease | None = Field(None, description="what holding the case was answered with")

    @model_validator(mode="after")
    def _fits(self) -> Verdict:
        named = [self.damage, self.part, self.side]
        if self.action == "correct" and not any(named):
            raise ValueError("a correction names a damage, a part or a side")
        if self.action != "correct" and any(named):
            raise ValueError(f"only `correct` takes a damage, a part or a side, not `{self.action}`")
        if self.action == "ask" and not self.note:
            raise ValueError("`ask` says in a `note` what to photograph")
        return self


class Drawn(Who):
    """A damage that the models have missed, as a person drew it."""

    model_config = _example(
        {"box": [0.41, 0.52, 0.58, 0.66], "damage": "scratch", "part": "front_left_door", "reviewer": "Ada"}
    )

    box: Box = Field(description="[x0, y0, x1, y1] in the upright photo")
    damage: Name = Field(description="a damage of the vocabulary (`GET /v1/models`)")
    part: Name | None = Field(None, description="a part of the vocabulary")
    side: Side | None = None

    @model_validator(mode="after")
    def _fits(self) -> Drawn:
        x0, y0, x1, y1 = self.box
        if not (x0 >= 0 and y0 >= 0 and x1 <= 1 and y1 <= 1 and x1 - x0 >= LEAST_SIDE and y1 - y0 >= LEAST_SIDE):
            raise ValueError(f"the box must lie in the photo, each side at least {LEAST_SIDE} of it")
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
    """A finding that waits for a person, or was decided by one. The ETag of the answer is its `version`.

    Or a whole claim: where nothing was found or a photo failed there is no `finding`, and `photos` are all of them.
    `state` is `gone` where a damage that a person had drawn was taken back.
    """

    object: Literal["review_case"] = "review_case"
    id: str = Field(description="The finding's id, or the claim's")
    finding_id: str | None
    state: State
    version: int
    informative: Signals | None = Field(description="null where it is about the whole claim")
    held: Holder | None = Field(description="Who has it open; null where nobody does")
    claim: ClaimOfCase
    photo: Photo
    photos: list[Photo] = Field([], description="All of the claim's, where it is about the whole claim")
    finding: Finding | None
    decision: ClaimReviewed | None = Field(None, description="What stands of the whole claim")
    crop: Box | None = Field(description="What `crop.webp` shows: the damage with its surroundings")
    memory: Literal["none", "wanted", "kept", "refused", "unwanted", "gone"] = Field(
        description="Whether the memory of past cases learned the standing decision; `wanted`: it will, once it can"
    )
    memory_note: str | None = None
    links: dict[str, str]


class HeldCase(Case):
    """A case that the caller holds until `held.until`; without a `lease` there is nothing left to decide."""

    lease: Lease | None = Field(examples=[_LEASE])


class Waiting(Api):
    """A case as the queue lists it."""

    id: str
    finding_id: str | None = Field(description="null where it is about the whole claim")
    claim_id: str
    state: State
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
    ask: int = 0
    add: int = Field(0, description="Damages that people drew; no case waited for them, so they are not in `done`")
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
    action: Action | ClaimAction
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
