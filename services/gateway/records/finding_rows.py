"""From a finding as the API shows it to its row."""

from __future__ import annotations

from collections.abc import Sequence

from services.gateway import schemas
from services.gateway.records.models import Json


def finding_rows(claim_id: str, photo_id: str, findings: Sequence[schemas.Finding], *, first: int = 0) -> list[Json]:
    """Rows at the positions from `first` on."""
    return [
        {
            "id": finding.id,
            "claim_id": claim_id,
            "photo_id": photo_id,
            "position": position,
            "damage": finding.damage,
            "part": finding.part.name if finding.part else None,
            "opinion": finding.opinion.label,
            "confidence": finding.confidence,
            "route": finding.route,
            "document": finding.model_dump(mode="json"),
        }
        for position, finding in enumerate(findings, first)
    ]
