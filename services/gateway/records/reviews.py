"""Reviewing's verbs: queue, lease, decide, undo. Two people never overwrite each other.

A case is held by a lease that ends by itself, and every change counts its version up. A decision names the version it
was made on: what was decided elsewhere in between refuses it (Changed) instead of being overwritten, and while
somebody else holds the case it is refused too (Held).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Select, bindparam, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from services.gateway import ids, schemas
from services.gateway.assessment.informative import informative
from services.gateway.records import review_cases as cases
from services.gateway.records.clock import now_ms
from services.gateway.records.database import Database
from services.gateway.records.finding_rows import finding_rows
from services.gateway.records.models import Claim, Finding, Json, Photo
from services.gateway.records.review_cases import Changed, NoCase, Opened
from services.gateway.records.review_rows import Review, ReviewCase
from services.gateway.records.whole import whole

OF_A_CLAIM = 0.5  # how informative a claim without any finding is: no model said anything, so nothing tells


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided. `after` is what the API shows from now on; `label` what the memory is to learn."""

    action: str
    before: Json
    after: Json
    label: str | None
    key_id: str | None
    reviewer: str | None


Summarise = Callable[[Claim, Json | None], schemas.Summary]  # of a claim, with what a person said of it as a whole


# Written down once: every claim ends with them.
_in_review = (
    select(Finding.id, Finding.document, Claim.tenant)
    .join(Claim, Claim.id == Finding.claim_id)
    .where(Finding.claim_id == bindparam("claim"), Finding.route == "review")
)
_tenant = select(Claim.tenant).where(Claim.id == bindparam("claim"))
_new_cases = insert(ReviewCase)


async def enqueue(connection: AsyncConnection, claim_id: str, *, doubtful: bool) -> None:
    """Put a claim's findings that are routed to review into the queue; part of the claim's last transaction.

    `doubtful`: and the claim itself, for a reason that no finding stands for.
    """
    found = await connection.execute(_in_review, {"claim": claim_id})
    waiting = [
        (finding_id, tenant, informative(schemas.Finding.model_validate(document)).score)
        for finding_id, document, tenant in found
    ]
    if doubtful:
        tenant = (await connection.execute(_tenant, {"claim": claim_id})).scalar_one()
        waiting.append((claim_id, tenant, OF_A_CLAIM))
    if waiting:
        rows = [
            {"subject_id": subject, "claim_id": claim_id, "tenant": tenant, "state": "open", "informative": score}
            for subject, tenant, score in waiting
        ]
        await connection.execute(_new_cases, rows)


class ReviewStore:
    """Cases and decisions; every method is one transaction and sees one tenant only."""

    def __init__(self, database: Database) -> None:
        self._reading = database.reading
        self._writing = database.writing

    @whole
    async def open(self, tenant: str, subject_id: str) -> Opened:
        """Raises NoCase."""
        async with AsyncSession(self._reading) as session:
            case = await cases.find(session, tenant, subject_id)
            return await cases.opened(session, case)

    @whole
    async def list(self, tenant: str, *, state: str, limit: int, offset: int) -> Sequence[ReviewCase]:
        """Cases in the order of the queue: not skipped first, then the most informative."""
        async with AsyncSession(self._reading) as session:
            query = _in_order(select(ReviewCase).where(ReviewCase.tenant == tenant, ReviewCase.state == state))
            return (await session.execute(query.limit(limit).offset(offset))).scalars().all()

    @whole
    async def take_next(self, tenant: str, holder: str, *, seconds: float) -> Opened | None:
        """Hold the first case that nobody holds, or None where there is none."""
        now = now_ms()
        free = or_(ReviewCase.held_until.is_(None), ReviewCase.held_until <= now)
        query = _in_order(select(ReviewCase).where(ReviewCase.tenant == tenant, ReviewCase.state == "open", free))
        async with self._writing.begin() as connection, _session(connection) as session:
            # Skipping locked rows lets two people who ask at once get two cases (PostgreSQL; SQLite writes in turn).
            case = (await session.execute(query.limit(1).with_for_update(skip_locked=True))).scalar_one_or_none()
            if case is None:
                return None
            cases.hold(case, holder, now, seconds)
            return await cases.written(session, case)

    @whole
    async def take(self, tenant: str, subject_id: str, holder: str, lease: str | None, *, seconds: float) -> Opened:
        """Hold this case, or hold it longer where `lease` already does. Raises NoCase, Held."""
        async with self._writing.begin() as connection, _session(connection) as session:
            case = await cases.find(session, tenant, subject_id, lock=True)
            now = now_ms()
            if lease is not None and case.lease == lease:
                case.held_until = now + round(seconds * 1000)  # no new version: what its holder has seen still holds
            else:
                cases.refuse_if_held(case, lease, now)
                cases.hold(case, holder, now, seconds)
            return await cases.written(session, case)

    @whole
    async def release(self, tenant: str, subject_id: str, lease: str, *, skip: bool = False) -> None:
        """Let go of the case; with `skip` it comes after all that were skipped less often. Raises NoCase, Changed."""
        async with self._writing.begin() as connection, _session(connection) as session:
            case = await cases.find(session, tenant, subject_id, lock=True)
            if case.lease != lease:
                raise Changed(subject_id)
            cases.let_go(case)
            case.skips += skip
            await session.flush()

    @whole
    async def decide(
        self, tenant: str, subject_id: str, decision: Decision, *, version: int, lease: str | None, summarise: Summarise
    ) -> tuple[Opened, Review]:
        """Write a decision, and the claim's summary as it is with it. Raises NoCase, Changed, Held."""
        async with self._writing.begin() as connection, _session(connection) as session:
            case = await cases.find_alone(session, tenant, subject_id)
            cases.refuse_if_changed(case, version, "open")
            cases.refuse_if_held(case, lease, now_ms())
            return await _decided(session, case, decision, summarise)

    @whole
    async def add(
        self, tenant: str, photo_id: str, finding: schemas.Finding, decision: Decision, *, summarise: Summarise
    ) -> tuple[Opened, Review]:
        """Write a finding that a person has drawn on a finished claim, with the decision that adds it. Raises NoCase.

        The same box with the same name is there once, however often it is sent.
        """
        async with self._writing.begin() as connection, _session(connection) as session:
            where = select(Claim.id).join(Photo, Photo.claim_id == Claim.id)
            where = where.where(Photo.id == photo_id, Claim.tenant == tenant)
            claim_id = (await session.execute(where.with_for_update(key_share=True, of=Claim))).scalar_one_or_none()
            if claim_id is None:
                raise NoCase(photo_id)
            claim = await cases.whole_claim(session, claim_id)
            photo = next(each for each in claim.photos if each.id == photo_id)
            for known in photo.findings:
                same = (known.document.get("source"), known.document["box"]) == ("human", list(finding.box))
                if known.review and same and known.damage == finding.damage:
                    case = await cases.find(session, tenant, known.id)
                    standing = (await session.execute(select(Review).where(Review.id == case.review_id))).scalar_one()
                    return await cases.opened(session, case), standing
            first = 1 + max((known.position for known in photo.findings), default=-1)
            await session.execute(insert(Finding), finding_rows(claim_id, photo_id, [finding], first=first))
            session.expunge_all()  # read again with the new one
            case = ReviewCase(subject_id=finding.id, claim_id=claim_id, tenant=tenant, informative=0.0, version=0)
            session.add(case)
            return await _decided(session, case, decision, summarise)

    @whole
    async def undo(
        self, tenant: str, subject_id: str, holder: str, *, version: int, seconds: float, summarise: Summarise
    ) -> tuple[Opened, Review]:
        """Take the standing decision back and hold the case for another one, if any is left. Raises NoCase, Changed."""
        async with self._writing.begin() as connection, _session(connection) as session:
            case = await cases.find_alone(session, tenant, subject_id)
            cases.refuse_if_changed(case, version, "done")
            review = (await session.execute(select(Review).where(Review.id == case.review_id))).scalar_one()
            review.undone_at, review.undone_by = now_ms(), holder
            review.memory = "none" if review.memory == "none" else "unwanted"
            case.state, case.review_id = ("gone" if review.action == "add" else "open"), None
            if case.state == "open":
                cases.hold(case, holder, now_ms(), seconds)
            else:
                cases.let_go(case)  # it was there because of that decision only
            return await _concluded(session, case, None, summarise), review

    @whole
    async def history(self, tenant: str, subject_id: str) -> Sequence[Review]:
        """Every decision on it, the newest first."""
        query = select(Review).where(Review.tenant == tenant, Review.subject_id == subject_id)
        async with AsyncSession(self._reading) as session:
            return (await session.execute(query.order_by(Review.id.desc()))).scalars().all()

    @whole
    async def standing(self, tenant: str, review_ids: Sequence[str]) -> dict[str, str]:
        """Ids of the findings of those of these decisions that are the tenant's own and stand."""
        query = select(Review.id, Review.subject_id).where(
            Review.tenant == tenant, Review.undone_at.is_(None), Review.id.in_(review_ids)
        )
        async with self._reading.connect() as connection:
            return {review_id: subject_id for review_id, subject_id in await connection.execute(query)}

    @whole
    async def progress(self, tenant: str, since_ms: int) -> dict[str, int]:
        """How many cases are `open`, and how many decisions of each action stand that were made since."""
        waiting = select(func.count()).where(ReviewCase.tenant == tenant, ReviewCase.state == "open")
        made = select(Review.action, func.count()).where(
            Review.tenant == tenant, Review.created_at >= since_ms, Review.undone_at.is_(None)
        )
        async with self._reading.connect() as connection:
            counts = {action: count for action, count in await connection.execute(made.group_by(Review.action))}
            return {**counts, "open": int((await connection.execute(waiting)).scalar_one())}

    @whole
    async def unsettled(self, *, limit: int = 100) -> Sequence[Review]:
        """Decisions that the memory does not follow yet, oldest first, whosoever they are."""
        query = select(Review).where(Review.memory.in_(("wanted", "unwanted"))).order_by(Review.id).limit(limit)
        async with AsyncSession(self._reading) as session:
            return (await session.execute(query)).scalars().all()

    @whole
    async def lesson(self, review_id: str) -> str | None:
        """What the memory has to do about a decision, or has done; None where the decision is erased."""
        async with self._reading.connect() as connection:
            return (await connection.execute(_lesson(review_id))).scalar_one_or_none()

    @whole
    async def settled(self, review_id: str, wish: str, memory: str, note: str | None = None) -> str | None:
        """Note what the memory did, unless something else is wished by now; answers what stands then."""
        changes = {"memory": memory, "memory_note": note}
        async with self._writing.begin() as connection:
            await connection.execute(
                update(Review).where(Review.id == review_id, Review.memory == wish).values(changes)
            )
            return (await connection.execute(_lesson(review_id))).scalar_one_or_none()


def _lesson(review_id: str) -> Select[str]:
    return select(Review.memory).where(Review.id == review_id)


def _session(connection: AsyncConnection) -> AsyncSession:
    """Objects on a transaction that somebody else ends; they stay readable after it."""
    return AsyncSession(connection, expire_on_commit=False)


def _in_order(query: Select[ReviewCase]) -> Select[ReviewCase]:
    return query.order_by(ReviewCase.skips, ReviewCase.informative.desc(), ReviewCase.subject_id)


async def _decided(
    session: AsyncSession, case: ReviewCase, decision: Decision, summarise: Summarise
) -> tuple[Opened, Review]:
    review = Review(
        id=ids.new("rev"),
        subject_id=case.subject_id,
        claim_id=case.claim_id,
        tenant=case.tenant,
        action=decision.action,
        key_id=decision.key_id,
        reviewer=decision.reviewer,
        created_at=now_ms(),
        before=decision.before,
        after=decision.after,
        label=decision.label,
        memory="wanted" if decision.label else "none",
    )
    session.add(review)
    case.state, case.review_id = "done", review.id
    cases.let_go(case)
    shown = {**decision.after, "id": review.id, "at": review.created_at, "reviewer": decision.reviewer}
    return await _concluded(session, case, {**shown, "action": decision.action}, summarise), review


async def _concluded(session: AsyncSession, case: ReviewCase, review: Json | None, summarise: Summarise) -> Opened:
    """The finding, or the claim, with or without a decision, and the claim's summary made from all of its findings."""
    if not case.about_claim:
        await session.execute(update(Finding).where(Finding.id == case.subject_id).values(review=review))
    opened = await cases.written(session, case)
    summary = summarise(opened.claim, review if case.about_claim else (opened.claim.summary or {}).get("review"))
    # An UPDATE even where the summary stays as it was: the claim's version tells that something of it has changed.
    changes = {"route": summary.route, "summary": summary.model_dump(mode="json")}
    await session.execute(update(Claim).where(Claim.id == case.claim_id).values(changes))
    return opened
