"""Examples of API objects for tests."""

from __future__ import annotations

from services.common.serving.schemas import Mask
from services.gateway import ids, schemas


def finding(damage: str = "dent", part: str | None = "hood", **changes: object) -> schemas.Finding:
    made = schemas.Finding(
        id=ids.new("fnd"),
        damage=damage,
        display=damage.title(),
        title=damage.title(),
        title_confidence=0.9,
        damage_score=0.8,
        name_probability=0.7,
        opinion=schemas.Opinion(
            label="dent", confidence=0.9, probabilities={"dent": 0.9}, source="model", agrees=True, gates=[0.2] * 5
        ),
        part=schemas.Part(name=part, display=part.title(), side="center", share=0.9) if part else None,
        second_part=None,
        box=(0.1, 0.1, 0.3, 0.3),
        mask=Mask(size=(4, 4), counts="04"),
        polygons=[[(0.1, 0.1), (0.3, 0.1), (0.3, 0.3)]],
        area_share=0.02,
        size="small",
        fake=schemas.Fake(score=0.1),
        confidence=0.9,
        route="auto",
        reasons=[],
    )
    return made.model_copy(update=changes)


def summary(route: schemas.Route = "auto") -> schemas.Summary:
    return schemas.Summary(route=route, reasons=[], parts=[], findings=1)


def error(slug: str = "photo-undecodable") -> schemas.Error:
    return schemas.Error(type=f"urn:claimsight:problem:{slug}", title="No", status=422, detail="It cannot be read")
