"""Photos as they are received, and the rows they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.serving.errors import Generated
from services.common.serving.problems import TYPE_PREFIX
from services.gateway import schemas
from services.gateway.records.models import Json


@dataclass(frozen=True, slots=True)
class NewPhoto:
    """A photo as it was received; with `error` it is kept as failed and never looked at."""

    id: str
    sha256: str | None
    bytes: int
    error: schemas.Error | None = None
    angle: schemas.View | None = None


def photo_rows(claim_id: str, photos: Sequence[NewPhoto], *, first: int = 0) -> list[Json]:
    """New photos as rows, at the positions from `first` on."""
    return [
        {
            "id": photo.id,
            "claim_id": claim_id,
            "position": position,
            "status": ended(photo.error) if photo.error else "queued",
            "sha256": photo.sha256,
            "bytes": photo.bytes,
            "angle": photo.angle,
            "view": {},
            "reasons": [],
            "timings_ms": {},
            "error": photo.error.model_dump() if photo.error else None,
        }
        for position, photo in enumerate(photos, first)
    ]


def ended(error: schemas.Error) -> str:
    """The status of a photo with this error: our own pictures are rejected, everything else has failed."""
    return "rejected" if error.type == TYPE_PREFIX + Generated.slug else "failed"
