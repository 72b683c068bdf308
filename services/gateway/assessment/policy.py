"""The numbers that decide what is believed and what a person looks at."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.vision.parts import LEAST_SHARE
from services.common.vision.vote import NEIGHBOURS


@dataclass(frozen=True, slots=True)
class Policy:
    """Defaults are the papers' where they give one (CropResMoE: tau, lambda), else chosen on the side of review."""

    tau: float = 0.6  # accept a calibrated probability strictly above it
    blend: float = 0.7  # lambda: the model's share beside the neighbours' vote
    neighbours: int = NEIGHBOURS  # k of the vote
    sure_damage: float = 0.5  # calibrated score of a detection: below it is less likely a damage than not
    fake_doubt: float = 0.3  # fake score from which a damage goes to review
    least_vehicle: float = 0.02  # share of the photo that a vehicle must cover
    least_part_share: float = LEAST_SHARE  # of a damage that must lie on a part to be said to be on it
    least_fake_share: float = 0.1  # of a damage that must lie under a lookalike to be in doubt for it
    max_findings: int = 30  # per photo, the surest first
    max_pixels: int = 50_000_000  # of a photo, by its header
