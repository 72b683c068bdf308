"""The records' promises, in SQLite and in a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from services.gateway import ids
from services.gateway.records import migrate
from services.gateway.records.attempts import Attempts, Conclusion, MorePhotos, Outcome, StaleAttempt
from services.gateway.records.database import Database
from services.gateway.records.new_photos import NewPhoto
from services.gateway.records.states import State, States
from services.gateway.records.store import ClaimStore
from services.gateway.records.tables import Base
from services.gateway.records.usage import UsageStore
from services.gateway.records.webhooks import WebhookStore
from tests.unit.gateway import examples
from tests.unit.gateway.servers import postgres, postgres_binaries


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed")
    with postgres(binaries) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "sqlite":
        opened = Database(f"sqlite:///{tmp_path / 'records.db'}")
    else:
        opened = Database(request.getfixturevalue("postgres_url"))
        async with opened.writing.begin() as connection:
            await connection.execute(text("DROP SCHEMA public CASCADE"))
            await connection.execute(text("CREATE SCHEMA public"))
    await opened.upgrade()
    yield opened
    await opened.close()


@pytest.fixture
def store(database: Database) -> ClaimStore:
    return ClaimStore(database)


@pytest.fixture
def attempts(database: Database) -> Attempts:
    return Attempts(database)


async def accepted(store: ClaimStore, photos: int = 1, **more: str) -> tuple[str, list[str]]:
    claim_id = ids.new("clm")
    made = [NewPhoto(id=ids.new("pho"), sha256="0" * 64, bytes=10) for _ in range(photos)]
    await store.accept(claim_id, made, tenant="acme", external_ref=more.get("external_ref"), metadata={"policy": "P-1"})
    return claim_id, [photo.id for photo in made]


async def test_a_claim_is_read_back_as_it_was_accepted(store: ClaimStore) -> None:
    claim_id, photo_ids = await accepted(store, photos=2, external_ref="A-7")
    claim = await store.load(claim_id)
    assert claim is not None
    assert (claim.status, claim.external_ref, claim.annotations) == ("queued", "A-7", {"policy": "P-1"})
    assert [photo.id for photo in claim.photos] == photo_ids
    assert await store.load(ids.new("clm")) is None


async def test_every_change_of_a_claim_gives_it_another_version(
    store: ClaimStore, attempts: Attempts, database: Database
) -> None:
    claim_id, (photo_id,) = await accepted(store)
    waiting, _ = await accepted(store)
    states = States(database)
    seen = [await states.of(claim_id)]
    attempt = await attempts.begin(claim_id)
    seen.append(await states.of(claim_id))
    await attempts.write_photo(claim_id, attempt, photo_id, Outcome())
    seen.append(await states.of(claim_id))
    await attempts.finish(claim_id, attempt, concluded)
    seen.append(await states.of(claim_id))
    versions = [state.version for state in seen if state]
    assert len(versions) == len(set(versions)) == 4 and versions == sorted(versions)
    assert seen[0] == State("queued", 0, 0) and await states.of(waiting) == State("queued", 0, 0)
    behind, _ = await accepted(store)
    assert await states.of(behind) == State("queued", 0, 1)
    assert await states.of(ids.new("clm")) is None


async def test_a_tenants_turn_comes_after_as_many_claims_of_others_as_it_has_itself(
    store: ClaimStore, database: Database
) -> None:
    for _ in range(5):
        await accepted(store)
    usage = UsageStore(database)
    assert (await usage.ahead("acme"), await usage.ahead("other")) == (5, 1)


def concluded(_photos: object) -> Conclusion:
    return Conclusion((), examples.summary())


async def test_a_claim_with_a_photo_that_nobody_looked_at_is_not_finished(
    store: ClaimStore, attempts: Attempts
) -> None:
    claim_id, photo_ids = await accepted(store, photos=2)
    attempt = await attempts.begin(claim_id)
    await attempts.write_photo(claim_id, attempt, photo_ids[0], Outcome())
    with pytest.raises(MorePhotos):
        await attempts.finish(claim_id, attempt, concluded)
    claim = await store.load(claim_id)
    assert claim is not None and (claim.status, claim.completed_at) == ("processing", None)


async def test_results_appear_photo_by_photo_and_the_claim_finishes(store: ClaimStore, attempts: Attempts) -> None:
    claim_id, photo_ids = await accepted(store, photos=2)
    attempt = await attempts.begin(claim_id)
    finding = examples.finding()
    await attempts.write_photo(claim_id, attempt, photo_ids[0], Outcome(width=640, height=480, findings=(finding,)))
    half = await store.load(claim_id)
    assert half is not None and half.status == "processing"
    assert half.photos[0].findings[0].document == finding.model_dump(mode="json")
    assert half.photos[1].status == "queued"
    await attempts.write_photo(claim_id, attempt, photo_ids[1], Outcome(error=examples.error()))
    await attempts.finish(claim_id, attempt, lambda _: Conclusion((), examples.summary("review"), partial=True))
    done = await store.load(claim_id)
    assert done is not None
    assert (done.status, done.partial, done.route) == ("succeeded", True, "review")
    assert done.completed_at is not None and done.completed_at >= done.created_at


async def test_the_last_photo_is_written_with_the_claims_end_or_not_at_all(
    store: ClaimStore, attempts: Attempts
) -> None:
    claim_id, photo_ids = await accepted(store, photos=2)
    attempt = await attempts.begin(claim_id)
    last = {photo_ids[0]: Outcome(findings=(examples.finding(),))}
    with pytest.raises(MorePhotos):
        await attempts.finish(claim_id, attempt, concluded, last)
    half = await store.load(claim_id)
    assert half is not None and [photo.status for photo in half.photos] == ["queued", "queued"]
    await attempts.write_photo(claim_id, attempt, photo_ids[1], Outcome())
    await attempts.finish(claim_id, attempt, concluded, last)
    done = await store.load(claim_id)
    assert done is not None and done.status == "succeeded"
    assert [(photo.status, len(photo.findings)) for photo in done.photos] == [("succeeded", 1), ("succeeded", 0)]


async def test_a_stale_worker_cannot_write(store: ClaimStore, attempts: Attempts) -> None:
    claim_id, photo_ids = await accepted(store)
    stale = await attempts.begin(claim_id)
    latest = await attempts.begin(claim_id)
    assert latest == stale + 1
    with pytest.raises(StaleAttempt):
        await attempts.write_photo(claim_id, stale, photo_ids[0], Outcome(findings=(examples.finding(),)))
    with pytest.raises(StaleAttempt):
        await attempts.finish(claim_id, stale, concluded)
    await attempts.write_photo(claim_id, latest, photo_ids[0], Outcome(findings=(examples.finding(),)))
    claim = await store.load(claim_id)
    assert claim is not None and len(claim.photos[0].findings) == 1


async def test_a_photo_is_written_once(store: ClaimStore, attempts: Attempts) -> None:
    claim_id, photo_ids = await accepted(store)
    attempt = await attempts.begin(claim_id)
    await attempts.write_photo(claim_id, attempt, photo_ids[0], Outcome(findings=(examples.finding(),)))
    with pytest.raises(StaleAttempt):
        await attempts.write_photo(claim_id, attempt, photo_ids[0], Outcome(findings=(examples.finding(),)))


async def test_a_finished_claim_never_changes_again(store: ClaimStore, attempts: Attempts) -> None:
    claim_id, photo_ids = await accepted(store)
    attempt = await attempts.begin(claim_id)
    await attempts.write_photo(claim_id, attempt, photo_ids[0], Outcome())
    await attempts.finish(claim_id, attempt, concluded)
    with pytest.raises(StaleAttempt):
        await attempts.begin(claim_id)
    with pytest.raises(StaleAttempt):
        await attempts.finish(claim_id, attempt, concluded)
    assert not await attempts.give_up(claim_id, examples.error())
    claim = await store.load(claim_id)
    assert claim is not None and claim.status == "succeeded"


async def test_giving_up_fences_off_a_worker_that_still_runs(store: ClaimStore, attempts: Attempts) -> None:
    claim_id, photo_ids = await accepted(store)
    attempt = await attempts.begin(claim_id)
    assert await attempts.give_up(claim_id, examples.error("internal"))
    with pytest.raises(StaleAttempt):
        await attempts.write_photo(claim_id, attempt, photo_ids[0], Outcome())
    claim = await store.load(claim_id)
    assert claim is not None and claim.status == "failed" and claim.error is not None


async def test_many_workers_that_begin_one_claim_get_different_attempts(store: ClaimStore, attempts: Attempts) -> None:
    claim_id, _ = await accepted(store)
    numbers = await asyncio.gather(*(attempts.begin(claim_id) for _ in range(5)))
    assert sorted(numbers) == [1, 2, 3, 4, 5]


async def test_lists_are_newest_first_and_filtered(store: ClaimStore, attempts: Attempts) -> None:
    claims = [(await accepted(store, external_ref=f"R{n % 2}"))[0] for n in range(4)]
    await attempts.begin(claims[0])
    assert [claim.id for claim in await store.list("acme", limit=2)] == sorted(claims, reverse=True)[:2]
    assert [claim.id for claim in await store.list("acme", limit=9, status="processing")] == [claims[0]]
    assert {claim.id for claim in await store.list("acme", limit=9, external_ref="R1")} == {claims[1], claims[3]}
    older = await store.list("acme", limit=9, before=max(claims))
    assert max(claims) not in [claim.id for claim in older]


async def test_unfinished_claims_are_known_without_the_queue(store: ClaimStore, attempts: Attempts) -> None:
    waiting, running = [(await accepted(store))[0] for _ in range(2)]
    await attempts.begin(running)
    finished, photo_ids = await accepted(store)
    attempt = await attempts.begin(finished)
    await attempts.write_photo(finished, attempt, photo_ids[0], Outcome())
    await attempts.finish(finished, attempt, concluded)
    found = await store.unfinished(older_than_ms=-1000)
    assert {claim.id for claim in found} == {waiting, running}
    assert {claim.share.tenant for claim in found} == {"acme"} and all(claim.share.photos > 0 for claim in found)
    assert await store.unfinished(older_than_ms=60_000) == []


async def test_a_claim_does_not_wait_behind_all_of_another_tenants_flood(store: ClaimStore) -> None:
    ended: list[str] = []

    async def accept(tenant: str) -> None:
        photo = NewPhoto(id=ids.new("pho"), sha256="0" * 64, bytes=10)
        await store.accept(ids.new("clm"), [photo], tenant=tenant, external_ref=None, metadata={})
        ended.append(tenant)

    await asyncio.gather(*(accept(f"t-{number}") for number in range(5)))  # connections are open
    ended.clear()
    await asyncio.gather(*(accept("noisy") for _ in range(40)), accept("quiet"))
    assert ended.index("quiet") < 20 and len(ended) == 41


async def test_several_processes_may_upgrade_at_once(database: Database) -> None:
    await asyncio.gather(*(database.upgrade() for _ in range(3)))


async def test_the_migrations_build_exactly_the_models(database: Database) -> None:
    def difference(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))

    async with database.reading.connect() as connection:
        assert await connection.run_sync(difference) == []


def downgrade(connection: Connection, revision: str) -> set[str]:
    """The tables that are left."""
    prepared = migrate.config()
    prepared.attributes["connection"] = connection
    command.downgrade(prepared, revision)
    return set(inspect(connection).get_table_names())


async def test_who_heard_of_failed_claims_hears_of_expired_ones_after_an_upgrade(database: Database) -> None:
    async def events() -> list[list[str]]:
        return [receiver.events for receiver in await receivers.list("acme")]

    receivers = WebhookStore(database)
    for wanted in (["claim.failed", "claim.expired"], ["claim.completed"]):
        await receivers.register("acme", "https://example.org/", "whsec_eA==", wanted, limit=5)
    now = await events()
    async with database.writing.begin() as connection:
        await connection.run_sync(downgrade, "0013")
    assert sorted(await events()) == [["claim.completed"], ["claim.failed"]]
    await database.upgrade()
    assert await events() == now


async def test_every_migration_can_be_taken_back_and_made_again(database: Database) -> None:
    revisions = [each.revision for each in ScriptDirectory.from_config(migrate.config()).walk_revisions()]
    assert len(revisions) >= 9  # newest first; more than one head would have raised
    left: set[str] = set()
    for revision in [*revisions[1:], "base"]:
        async with database.writing.begin() as connection:
            left = await connection.run_sync(downgrade, revision)
    assert left == {"alembic_version"}
    await database.upgrade()
    await test_the_migrations_build_exactly_the_models(database)
