"""From photos to the claim: damaged parts together, every reason once, and where the claim should go."""

from __future__ import annotations

from collections.abc import Sequence

from services.gateway.assessment.reasons import SENTENCES, gathered, reason
from services.gateway.schemas import ClaimReviewed, DamagedPart, Finding, Photo, Reason, Summary


def summarise(photos: Sequence[Photo], review: ClaimReviewed | None = None) -> Summary:
    """`auto` only where nothing at all asks for a person: no finding, no photo, not the claim as a whole.

    What a person has rejected is no damage; that all of it was rejected is an answer, and not the doubt `no_damage`.
    `review` is what a person says of everything that is no finding's doubt; it takes those reasons' place.
    """
    findings = [finding for photo in photos for finding in photo.findings if not rejected(finding)]
    about = unplaced(photos) if review is None else _standing(review)
    reasons = [*about, *_gather(findings, "finding")]
    return Summary(
        route="review" if reasons else "auto",
        reasons=reasons,
        parts=_damaged_parts(findings),
        findings=len(findings),
        review=review,
    )


def unplaced(photos: Sequence[Photo]) -> list[Reason]:
    """The reasons that no finding stands for: the claim's and its photos'."""
    return [*_claim_reasons(photos), *_gather(photos, "photo")]


def _standing(review: ClaimReviewed) -> list[Reason]:
    if review.action == "accept":
        return []
    if review.action == "ask":
        return [reason("photo_wanted", f"{SENTENCES['photo_wanted']}: {review.note}" if review.note else None)]
    return [reason("person_objects", f"{SENTENCES['person_objects']}: {review.note}" if review.note else None)]


def rejected(finding: Finding) -> bool:
    """Whether a person said that it is no damage."""
    return finding.review is not None and finding.review.action == "reject"


def _claim_reasons(photos: Sequence[Photo]) -> list[Reason]:
    reasons = []
    failed = [photo for photo in photos if photo.status == "failed"]
    if failed:
        reasons.append(
            gathered("photo_failed", len(failed), "photo", reason("photo_failed", "one photo could not be read"))
        )
    made = sum(photo.status == "rejected" for photo in photos)
    if made:
        reasons.append(gathered("photo_generated", made, "photo", reason("photo_generated")))
    if not any(photo.findings for photo in photos):
        reasons.append(reason("no_damage"))
    return reasons


def _gather(things: Sequence[Photo] | Sequence[Finding], name: str) -> list[Reason]:
    found: dict[str, list[Reason]] = {}
    for thing in things:
        for each in thing.reasons:
            found.setdefault(each.code, []).append(each)
    return [gathered(code, len(same), name, same[0]) for code, same in found.items()]


def _damaged_parts(findings: Sequence[Finding]) -> list[DamagedPart]:
    """Findings by part, the surest part first. The same dent on three photos is one damage of one part."""
    by_part: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.part is not None:
            by_part.setdefault(finding.part.name, []).append(finding)
    parts = [
        DamagedPart(
            name=name,
            display=same[0].part.display if same[0].part else name,
            side=same[0].part.side if same[0].part else None,
            damages=sorted({finding.damage for finding in same}),
            findings=[finding.id for finding in same],
            confidence=max(finding.confidence for finding in same),
        )
        for name, same in by_part.items()
    ]
    return sorted(parts, key=lambda part: -part.confidence)
