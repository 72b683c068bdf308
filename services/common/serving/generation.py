"""The wire schema of generations, shared by gateway and generator: what may be asked, and what is told.

Whatever is refused is refused here, before a job is queued and before a GPU works.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, field_validator, model_validator

MAX_SIDE = 1536  # pixels; SDXL was trained around 1024
MAX_PHOTO_BYTES = 20 * 1024 * 1024

Status = Literal["running", "succeeded", "failed", "canceled"]


class Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


# Pictures of identifiable people and of plates that may exist are none of a damage generator's business. A rule can be
# gone around; it stands at the door of the obvious and is audited like everything else.
_PLATE_WORDS = re.compile(r"\b(?:licen[cs]e|number|registration|vanity)[\s-]*plates?\b|\bplate[\s-]*numbers?\b", re.I)
_PLATE_TEXT = re.compile(
    r"\b(?:[A-Z]{1,3}[ -]?\d{2,4}[ -]?[A-Z]{1,3}|[A-Z]{1,3}-[A-Z]{1,2}[ -]?\d{1,4}|[A-Z]{2}\d{2} ?[A-Z]{3}|"
    r"\d{1,4}[ -][A-Z]{2,3}[ -]\d{1,4}|[A-Z]{3}[ -]\d{3,4})\b"
)
_PEOPLE = re.compile(
    r"\b(?:person|people|man|men|woman|women|child|children|boy|girl|driver'?s?\s+face|face|portrait|celebrity|"
    r"politician|president|actor|actress|mr|mrs|ms|dr|named|called)\b\.?",
    re.I,
)
_FULL_NAME = re.compile(r"\b([A-Z][a-z]{2,})\s+([A-Z][a-z]{2,})\b")
# Two capitalised words in a row are a name, unless the first is a make or begins a sentence about a vehicle.
_MAKES = frozenset(
    """toyota honda mazda ford nissan bmw kia hyundai volkswagen renault skoda fiat tesla volvo peugeot audi opel subaru
    suzuki mercedes mitsubishi isuzu chevrolet citroen seat dacia lexus porsche jaguar land range alfa mini jeep dodge
    mg byd tata mahindra chery geely great wall infiniti acura cadillac buick chrysler ram gmc lada saab smart aston
    ferrari lamborghini maserati bentley rolls lotus mclaren cupra polestar lucid rivian ssangyong daihatsu""".split()  # noqa: SIM905
)
_PLACES = frozenset(("new", "san", "los", "north", "south", "east", "west", "bangkok"))


def refused(prompt: str) -> str | None:
    """Why this prompt is not served, or None. Names of people and number plates are refused by rule."""
    if _PLATE_WORDS.search(prompt) or _PLATE_TEXT.search(prompt):
        return "The prompt asks for a number plate. Leave plates out: they may be somebody's."
    if _PEOPLE.search(prompt):
        return "The prompt asks for a person. The generator shows vehicles only."
    for first, _second in _FULL_NAME.findall(prompt):
        if first.lower() not in _MAKES | _PLACES and not _starts_sentence(prompt, first):
            return "The prompt names what looks like a person. Leave names out; makes and models are fine."
    return None


def _starts_sentence(prompt: str, word: str) -> bool:
    """ "Rear Toyota": a capital at the beginning of a sentence says nothing, where a make follows."""
    match = re.search(rf"(?:^|[.!?]\s+){word}\s+(\w+)", prompt)
    return match is not None and match[1].lower() in _MAKES


class Inpaint(Wire):
    """Paint into a photo of an undamaged vehicle: where the mask is white, and nowhere else.

    `mask` is a PNG of the upright photo's size; `part` and `damage` become the picture's labels.
    """

    photo: Annotated[Base64Bytes, Field(min_length=1, max_length=MAX_PHOTO_BYTES)]
    mask: Annotated[Base64Bytes, Field(min_length=1, max_length=MAX_PHOTO_BYTES)]
    strength: float = Field(0.99, gt=0, le=1, description="1: nothing of what was under the mask is left")


class Ask(Wire):
    """One generation: one picture for each prompt, the first with `seed`, the next with `seed + 1`, ..."""

    prompts: Annotated[list[str], Field(min_length=1, max_length=16)]
    negative_prompt: str = Field("", max_length=300)
    seed: int = Field(0, ge=0, lt=2**31)
    steps: int = Field(50, ge=1, le=100)
    guidance: float = Field(7.5, ge=0, le=30)
    width: int = Field(1024, ge=64, le=MAX_SIDE, multiple_of=8)
    height: int = Field(1024, ge=64, le=MAX_SIDE, multiple_of=8)
    damage: str | None = Field(None, max_length=64, pattern="^[a-z_]+$", description="label, as in /v1/models")
    part: str | None = Field(None, max_length=64, pattern="^[a-z_]+$", description="label, as in /v1/models")
    unmarked: bool = Field(False, description="leave out the corner mark: training exports only, kept apart")
    inpaint: Inpaint | None = None

    @field_validator("prompts")
    @classmethod
    def _usable(cls, prompts: list[str]) -> list[str]:
        for prompt in prompts:
            if not prompt.strip():
                raise ValueError("a prompt is empty; say what the picture should show")
            if len(prompt) > 300:
                raise ValueError(
                    f"a prompt has {len(prompt)} characters; the model reads 77 tokens, about 300 characters"
                )
            if (why := refused(prompt)) is not None:
                raise ValueError(why)
        return prompts

    @model_validator(mode="after")
    def _labels(self) -> Ask:
        if self.inpaint is not None and (self.damage is None or self.part is None):
            raise ValueError("inpaint needs damage and part: they are the painted region's labels")
        return self


class Made(Wire):
    """One picture: what it shows and where its bytes are. `sha256` is of the signed PNG."""

    prompt: str
    seed: int
    width: int
    height: int
    sha256: str
    seconds: float


class GeneratorModel(Wire):
    """What draws: its hashes go into every audit line."""

    kind: str
    base_sha256: str
    lora_sha256: str | None = None
    device: str
    precision: str


class Failure(Wire):
    """The members of a problem document that make sense inside a state."""

    slug: str
    title: str
    status: int
    detail: str


class Progress(Wire):
    """A generation in the generator. `done` of `total` denoising steps, over all its pictures."""

    id: str
    status: Status
    done: int
    total: int
    images: list[Made] = []
    model: GeneratorModel
    error: Failure | None = None
