"""From the rows of reviewing to what the API shows."""

from __future__ import annotations

from services.gateway import present, schemas
from services.gateway.assessment.informative import informative
from services.gateway.records.clock import now_ms, to_datetime
from services.gateway.records.review_rows import Review, ReviewCase
from services.gateway.records.reviews import Opened
from services.gateway.reviews import crops
from services.gateway.reviews.schemas import Case, ClaimOfCase, Decided, HeldCase, Holder, Signals, Waiting

_DIGITS = 4


def case(opened: Opened, review: Review | None) -> Case:
    """`review` is the decision that stands."""
    row, document = opened.case, opened.finding.document
    told = informative(schemas.Finding.model_validate(document))
    summary = opened.claim.summary or {}
    return Case(
        finding_id=row.finding_id,
        state="done" if row.state == "done" else "open",
        version=row.version,
        informative=Signals(
            score=round(told.score, _DIGITS),
            uncertainty=round(told.uncertainty, _DIGITS),
            disagreement=round(told.disagreement, _DIGITS),
            novelty=round(told.novelty, _DIGITS),
        ),
        held=held(row),
        claim=ClaimOfCase(
            id=opened.claim.id,
            external_ref=opened.claim.external_ref,
            created_at=to_datetime(opened.claim.created_at),
            reasons=summary.get("reasons", []),
        ),
        photo=present.photo(opened.photo),
        finding=present.finding(opened.finding),
        crop=crops.surroundings(document["box"]),
        memory=review.memory if review else "none",
        memory_note=review.memory_note if review else None,
        links={
            "self": f"/v1/reviews/{row.finding_id}",
            "crop": f"/v1/reviews/{row.finding_id}/crop.webp",
            "similar": f"/v1/reviews/{row.finding_id}/similar",
            "history": f"/v1/reviews/{row.finding_id}/history",
            "claim": f"/v1/claims/{opened.claim.id}",
        },
    )


def held_case(opened: Opened) -> HeldCase:
    return HeldCase(**case(opened, None).model_dump(), lease=opened.case.lease or "")


def held(row: ReviewCase) -> Holder | None:
    if row.held_until is None or row.held_until <= now_ms():
        return None
    return Holder(by=row.holder or "", until=to_datetime(row.held_until))


def waiting(row: ReviewCase) -> Waiting:
    return Waiting(
        finding_id=row.finding_id,
        claim_id=row.claim_id,
        state="done" if row.state == "done" else "open",
        score=round(row.informative, _DIGITS),
        skips=row.skips,
        version=row.version,
        held=held(row),
        links={"self": f"/v1/reviews/{row.finding_id}"},
    )


def decision(row: Review) -> Decided:
    return Decided(
        id=row.id,
        action=row.action,
        at=to_datetime(row.created_at),
        reviewer=row.reviewer,
        key_id=row.key_id,
        before=row.before,
        after=row.after,
        undone_at=None if row.undone_at is None else to_datetime(row.undone_at),
        undone_by=row.undone_by,
        label=row.label,
        memory=row.memory,
        memory_note=row.memory_note,
    )
