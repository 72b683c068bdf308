"""From the records' rows to what the API shows."""

from __future__ import annotations

import hashlib

from services.common.serving.schemas import ModelRef
from services.gateway import schemas
from services.gateway.records import models
from services.gateway.records.clock import to_datetime

FINAL = frozenset({"succeeded", "failed", "canceled", "expired"})


def claim(row: models.Claim, *, place: int | None = None) -> schemas.Claim:
    """A claim with its photos; `place` is how many claims wait before it, while it waits."""
    shown = item(row)
    photos = [photo(each) for each in row.photos]
    if row.status in FINAL:  # a claim that was given up: its open photos share its fate and its reason
        given_up = {"status": "canceled" if row.status == "canceled" else "failed", "error": shown.error}
        photos = [each.model_copy(update=given_up) if each.status == "queued" else each for each in photos]
    return schemas.Claim(
        **shown.model_dump(),
        progress=schemas.Progress(done=sum(each.status != "queued" for each in photos), total=len(photos)),
        queue=None if place is None else schemas.QueuePlace(position=place),
        photos=photos,
        models=_models(row.photos),
        timings_ms=_timings(row),
    )


def item(row: models.Claim) -> schemas.ClaimItem:
    return schemas.ClaimItem.model_validate(
        {
            "id": row.id,
            "status": row.status,
            "created_at": to_datetime(row.created_at),
            "started_at": None if row.started_at is None else to_datetime(row.started_at),
            "completed_at": None if row.completed_at is None else to_datetime(row.completed_at),
            "expires_at": None if row.expires_at is None else to_datetime(row.expires_at),
            "external_ref": row.external_ref,
            "metadata": row.annotations,
            "vehicle": row.vehicle,
            "partial": row.partial,
            "summary": row.summary,
            "error": row.error,
            "links": _links(row),
        }
    )


def _links(row: models.Claim) -> dict[str, str]:
    here = f"/v1/claims/{row.id}"
    return {"self": here, **({"evidence": f"{here}/evidence"} if row.status in FINAL else {"cancel": f"{here}/cancel"})}


def photo(row: models.Photo) -> schemas.Photo:
    here = f"/v1/claims/{row.claim_id}/photos/{row.id}"
    links = {"preview": f"{here}/preview.webp"} if row.sha256 and row.status != "failed" else {}
    if row.status == "succeeded":
        links["overlay"] = f"{here}/overlay.webp{_decisions(row)}"
    return schemas.Photo.model_validate(
        {
            "id": row.id,
            "status": row.status,
            "view": row.angle,
            "cached": row.view.get("cached", False),
            "sha256": row.sha256,
            "bytes": row.bytes,
            "width": row.width,
            "height": row.height,
            "vehicle": row.view.get("vehicle"),
            "findings": [finding(each) for each in row.findings if _stands(each)],
            "parts": row.view.get("parts", []),
            "lookalikes": row.view.get("lookalikes", []),
            "reasons": row.reasons,
            "timings_ms": row.timings_ms,
            "error": row.error,
            "links": links,
        }
    )


def _stands(row: models.Finding) -> bool:
    """Whether it is there: what a person has drawn is there while the decision stands that added it."""
    return row.review is not None or row.document.get("source") != "human"


def finding(row: models.Finding) -> schemas.Finding:
    """As the models left it, or as the person says whose decision stands: `reject` keeps the name that was denied."""
    made = schemas.Finding.model_validate(row.document)
    if row.review is None:
        return made
    decided = row.review
    changes = {name: decided[name] for name in ("damage", "display", "title", "part", "confidence")}
    review = {name: decided[name] for name in ("id", "action", "reviewer")}
    before = {"damage": made.damage, "display": made.display, "part": row.document["part"]}
    review |= {"at": to_datetime(decided["at"]), "before": before}
    changes |= {"title_confidence": decided["confidence"], "route": "auto", "reasons": [], "review": review}
    return schemas.Finding.model_validate(row.document | changes)


def _decisions(row: models.Photo) -> str:
    """A query that names what people decided on the photo: browsers keep an overlay, and its address, for ever."""
    ids = [each.review["id"] for each in row.findings if each.review]
    return f"?reviews={hashlib.sha256(','.join(ids).encode()).hexdigest()[:12]}" if ids else ""


def _models(photos: list[models.Photo]) -> dict[str, ModelRef]:
    """The models that answered; where a pack changed in mid-claim, the one of the last photo."""
    found: dict[str, ModelRef] = {}
    for each in photos:
        found |= {name: ModelRef.model_validate(ref) for name, ref in each.view.get("models", {}).items()}
    return found


def _timings(row: models.Claim) -> dict[str, float]:
    """Milliseconds waited and worked, and per stage the sum over all photos."""
    timings: dict[str, float] = {}
    if row.started_at is not None:
        timings["queue"] = row.started_at - row.created_at
    if row.completed_at is not None:
        timings["total"] = row.completed_at - row.created_at
    for each in row.photos:
        for stage, spent in each.timings_ms.items():
            timings[stage] = round(timings.get(stage, 0) + spent, 1)
    return timings
