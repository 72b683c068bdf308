"""A generation as the API shows it: the same envelope as a claim's."""

from __future__ import annotations

import io
from datetime import datetime
from typing import Literal

from PIL import Image

from services.common.serving.generation import GeneratorModel
from services.common.vision.photo import open_photo
from services.gateway.records import generation_rows
from services.gateway.records.clock import to_datetime
from services.gateway.schemas import Api, ClaimStatus, Error, Progress


class GeneratedImage(Api):
    """One picture. `damage` and `part` are what was asked for, not what was looked at: weak labels, exact only where
    the picture was painted into a photo."""

    id: str
    prompt: str
    seed: int
    width: int
    height: int
    sha256: str
    damage: str | None
    part: str | None
    links: dict[str, str]


class Generation(Api):
    """`progress` counts denoising steps over all pictures."""

    id: str
    object: Literal["generation"] = "generation"
    status: ClaimStatus
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    progress: Progress
    prompts: list[str]
    images: list[GeneratedImage] = []  # noqa: RUF012 - pydantic copies defaults
    model: GeneratorModel | None = None
    error: Error | None = None
    links: dict[str, str]


class GenerationList(Api):
    object: Literal["list"] = "list"
    data: list[Generation]
    next_page_token: str | None = None


def generation(row: generation_rows.Generation) -> Generation:
    here = f"/v1/generations/{row.id}"
    links = {"self": here}
    if row.status in ("queued", "processing"):
        links["cancel"] = f"{here}/cancel"
    if row.ask["inpaint"] is not None:
        links |= {"clean": f"{here}/clean.png", "mask": f"{here}/mask.png"}
    return Generation.model_validate(
        {
            "id": row.id,
            "status": row.status,
            "created_at": to_datetime(row.created_at),
            "started_at": None if row.started_at is None else to_datetime(row.started_at),
            "completed_at": None if row.completed_at is None else to_datetime(row.completed_at),
            "progress": {"done": row.done, "total": row.total},
            "prompts": row.ask["prompts"],
            "images": [_image(row, image) for image in row.images],
            "model": row.model,
            "error": row.error,
            "links": links,
        }
    )


def _image(row: generation_rows.Generation, image: generation_rows.GeneratedImage) -> GeneratedImage:
    document = {name: image.document[name] for name in ("prompt", "seed", "width", "height")}
    return GeneratedImage(
        **document,
        id=image.id,
        sha256=image.sha256,
        damage=row.ask["damage"],
        part=row.ask["part"],
        links={"self": f"/v1/generations/{row.id}/images/{image.number}.png"},
    )


def clean(photo: bytes) -> bytes:
    """The photo as it was painted into, PNG: pixel for pixel the picture's pair."""
    file = io.BytesIO()
    Image.fromarray(open_photo(photo).pixels).save(file, "PNG", compress_level=4)
    return file.getvalue()
