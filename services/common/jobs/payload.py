"""What a job says. The queue carries ids only: photos, findings and states live in the records."""

from __future__ import annotations

from dataclasses import asdict, dataclass

CLAIMS = "claims"  # the queue of claims to assess
GENERATIONS = "generations"  # the queue of pictures to make


@dataclass(frozen=True, slots=True)
class ClaimJob:
    """Assess the claim `claim_id`; the job's id is the same, so that a claim is queued at most once."""

    claim_id: str

    def to_json(self) -> dict[str, str]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, str]) -> ClaimJob:
        return cls(claim_id=data["claim_id"])


@dataclass(frozen=True, slots=True)
class GenerationJob:
    """Make the pictures of the generation `generation_id`; the job's id is the same."""

    generation_id: str

    def to_json(self) -> dict[str, str]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, str]) -> GenerationJob:
        return cls(generation_id=data["generation_id"])
