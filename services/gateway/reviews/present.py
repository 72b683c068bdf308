"""From the rows of reviewing to what the API shows."""

from __future__ import annotations

from services.gateway import present, schemas
from services.gateway.assessment.informative import informative
from services.gateway.records.clock import now_ms, to_datetime
from services.gateway.records.models import Json
from services.gateway.records.review_cases import Opened
from services.gateway.records.review_rows import Review, ReviewCase
from services.gateway.reviews import crops
from services.gateway.reviews.schemas import Case, ClaimOfCase, Decided, HeldCase, Holder, Signals, State, Waiting

_DIGITS = 4
_STATES: dict[str, State] = {"done": "done", "gone": "gone"}


def case(opened: Opened, review: Review | None) -> Case:
    """`review` is the decision that stands."""
    row, found = opened.case, opened.finding
    summary = opened.claim.summary or {}
    return Case(
        id=row.subject_id,
        finding_id=found.id if found else None,
        state=_STATES.get(row.state, "open"),
        version=row.version,
        informative=_signals(found.document) if found else None,
        held=held(row),
        claim=ClaimOfCase(
            id=opened.claim.id,
            external_ref=opened.claim.external_ref,
            created_at=to_datetime(opened.claim.created_at),
            reasons=summary.get("reasons", []),
        ),
        photo=present.photo(opened.photo),
        photos=[] if found else [present.photo(photo) for photo in opened.claim.photos],
        finding=present.finding(found) if found else None,
        decision=None if found else summary.get("review"),
        crop=crops.surroundings(found.document["box"]) if found else None,
        memory=review.memory if review else "none",
        memory_note=review.memory_note if review else None,
        links=_links(row),
    )


def held_case(opened: Opened) -> HeldCase:
    return HeldCase(**case(opened, None).model_dump(), lease=opened.case.lease)


def _links(row: ReviewCase) -> dict[str, str]:
    here = f"/v1/reviews/{row.subject_id}"
    links = {"self": here, "history": f"{here}/history", "claim": f"/v1/claims/{row.claim_id}"}
    return links if row.about_claim else links | {"crop": f"{here}/crop.webp", "similar": f"{here}/similar"}


def _signals(document: Json) -> Signals:
    told = informative(schemas.Finding.model_validate(document))
    return Signals(
        score=round(told.score, _DIGITS),
        uncertainty=round(told.uncertainty, _DIGITS),
        disagreement=round(told.disagreement, _DIGITS),
        novelty=round(told.novelty, _DIGITS),
    )


def held(row: ReviewCase) -> Holder | None:
    if row.held_until is None or row.held_until <= now_ms():
        return None
    return Holder(by=row.holder or "", until=to_datetime(row.held_until))


def waiting(row: ReviewCase) -> Waiting:
    return Waiting(
        id=row.subject_id,
        finding_id=None if row.about_claim else row.subject_id,
        claim_id=row.claim_id,
        state=_STATES.get(row.state, "open"),
        score=round(row.informative, _DIGITS),
        skips=row.skips,
        version=row.version,
        held=held(row),
        links={"self": f"/v1/reviews/{row.subject_id}"},
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
