"""Reviewing's records, in SQLite and in a real PostgreSQL."""

from __future__ import annotations

import asyncio

from sqlalchemy import text

from services.gateway import ids, present, schemas
from services.gateway.assessment.informative import informative
from services.gateway.assessment.route import summarise
from services.gateway.records import models
from services.gateway.records.attempts import Attempts, Conclusion, Outcome
from services.gateway.records.database import Database
from services.gateway.records.new_photos import NewPhoto
from services.gateway.records.review_cases import NoCase, Opened
from services.gateway.records.reviews import Decision, ReviewStore
from services.gateway.records.store import ClaimStore
from services.gateway.reviews.verdicts import lesson, shown
from tests.unit.gateway import examples
from tests.unit.gateway.fakes import VOCABULARY
from tests.unit.gateway.test_records import database, postgres_url  # noqa: F401 - fixtures


def doubtful(**changes: object) -> schemas.Finding:
    doubt = schemas.Reason(code="weak_detection", text="The segmenter is not sure that there is a damage.")
    return examples.finding().model_copy(update={"route": "review", "reasons": [doubt], **changes})


async def claimed(database: Database, *findings: schemas.Finding, tenant: str = "default") -> str:  # noqa: F811
    store, attempts = ClaimStore(database), Attempts(database)
    claim_id, photo_id = ids.new("clm"), ids.new("pho")
    await store.accept(claim_id, [NewPhoto(photo_id, "0" * 64, 10)], tenant=tenant, external_ref=None, metadata={})
    attempt = await attempts.begin(claim_id)
    await attempts.write_photo(claim_id, attempt, photo_id, Outcome(width=4, height=4, findings=findings))
    await attempts.finish(claim_id, attempt, lambda _: Conclusion((), examples.summary("review")))
    return claim_id


def summary(claim: models.Claim, _: object = None) -> schemas.Summary:
    return summarise([present.photo(photo) for photo in claim.photos])


async def accept(reviews: ReviewStore, opened: Opened) -> None:
    before = shown(present.finding(opened.damage))
    decision = Decision("accept", before, before, None, None, "Ada")
    case = opened.case
    await reviews.decide(
        case.tenant, case.subject_id, decision, version=case.version, lease=case.lease, summarise=summary
    )


async def test_decisions_on_one_claim_at_once_lose_nothing_of_its_summary(database: Database) -> None:  # noqa: F811
    reviews = ReviewStore(database)
    claim_id = await claimed(database, *(doubtful() for _ in range(6)))
    held = [await reviews.take_next("default", "Ada", seconds=60) for _ in range(6)]
    await asyncio.gather(*(accept(reviews, opened) for opened in held if opened))
    claim = await ClaimStore(database).load(claim_id)
    assert claim is not None and claim.summary is not None
    assert (claim.route, claim.summary["route"], claim.summary["reasons"]) == ("auto", "auto", [])


async def test_many_who_ask_at_once_never_hold_the_same_finding(database: Database) -> None:  # noqa: F811
    reviews = ReviewStore(database)
    await claimed(database, *(doubtful() for _ in range(8)))
    held = await asyncio.gather(*(reviews.take_next("default", f"R{n}", seconds=60) for n in range(12)))
    taken = [opened.case.subject_id for opened in held if opened]
    assert len(taken) == len(set(taken)) == 8


async def test_a_tenant_sees_no_other_ones_findings(database: Database) -> None:  # noqa: F811
    reviews = ReviewStore(database)
    finding = doubtful()
    await claimed(database, finding, tenant="theirs")
    assert await reviews.take_next("ours", "Ada", seconds=60) is None
    assert await reviews.list("ours", state="open", limit=10, offset=0) == []
    assert (await reviews.progress("ours", 0))["open"] == 0
    for question in (
        reviews.open("ours", finding.id),
        reviews.take("ours", finding.id, "Ada", None, seconds=60),
        reviews.release("ours", finding.id, ids.new("lse")),
    ):
        try:
            await question
        except NoCase:
            continue
        raise AssertionError("a foreign finding was answered")


async def test_erasing_a_claim_erases_its_cases_and_decisions(database: Database) -> None:  # noqa: F811
    reviews = ReviewStore(database)
    claim_id = await claimed(database, doubtful())
    opened = await reviews.take_next("default", "Ada", seconds=60)
    assert opened is not None
    await accept(reviews, opened)
    async with database.writing.begin() as connection:
        await connection.execute(text("DELETE FROM claims WHERE id = :id"), {"id": claim_id})
        for table in ("review_cases", "reviews"):
            assert (await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one() == 0


def test_the_score_is_the_mean_of_its_three_signals() -> None:
    opinion = examples.finding().opinion
    torn = opinion.model_copy(
        update={"probabilities": {"dent": 0.5, "scratch": 0.5}, "confidence": 0.5, "agrees": False}
    )
    told = informative(doubtful(opinion=torn))
    assert (told.uncertainty, told.disagreement, told.novelty) == (1.0, 0.5, 0.0)
    assert told.score == 0.5
    new = schemas.Reason(code="out_of_distribution", text="It is unlike every past case.")
    assert informative(examples.finding(reasons=[new])).novelty == 1.0


def test_a_name_teaches_only_the_class_that_it_plainly_means() -> None:
    opinion = examples.finding().opinion
    assert lesson("scratch", opinion, VOCABULARY) == "scratch"
    assert lesson("rust", opinion, VOCABULARY) is None
