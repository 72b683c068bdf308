"""The verbs of webhooks: receivers of a tenant, and deliveries that wait for their next try."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CursorResult, bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway import ids
from services.gateway.records import outbox
from services.gateway.records.clock import now_ms
from services.gateway.records.database import Database
from services.gateway.records.models import Json
from services.gateway.records.webhook_rows import Delivery, Webhook
from services.gateway.records.whole import whole

_LOG_LENGTH = 20  # tries that are remembered: all eight, and those of redeliveries

_anything_due = (
    select(Delivery.id)
    .where(
        Delivery.status == "pending",
        Delivery.due_at <= bindparam("now"),
        Delivery.webhook_id.not_in(bindparam("busy", expanding=True)),
    )
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that this process is to try now."""

    id: str
    webhook_id: str
    url: str
    secrets: tuple[str, ...]  # that sign it: two while one replaces the other
    event_id: str
    event: str
    body: str
    tries: int
    log: list[Json]


class WebhookStore:
    """Webhooks and deliveries; every method is one transaction. What belongs to another tenant is not there."""

    def __init__(self, database: Database) -> None:
        self._glance = database.glance
        self._reading = database.reading
        self._writing = database.writing

    @whole
    async def register(self, tenant: str, url: str, secret: str, events: list[str], *, limit: int) -> Webhook | None:
        """The new webhook, or None where the tenant has `limit` of them already."""
        row: Json = {
            "id": ids.new("whk"),
            "tenant": tenant,
            "url": url,
            "secret": secret,
            "events": events,
            "created_at": now_ms(),
        }
        async with self._writing.begin() as connection:
            known = await connection.execute(select(func.count()).where(Webhook.tenant == tenant))
            if int(known.scalar_one()) >= limit:
                return None
            await connection.execute(insert(Webhook), [row])
        return Webhook(**row)

    @whole
    async def list(self, tenant: str) -> Sequence[Webhook]:
        async with AsyncSession(self._reading) as session:
            query = select(Webhook).where(Webhook.tenant == tenant).order_by(Webhook.id)
            return (await session.execute(query)).scalars().all()

    @whole
    async def load(self, tenant: str, webhook_id: str) -> Webhook | None:
        async with AsyncSession(self._reading) as session:
            query = select(Webhook).where(Webhook.tenant == tenant, Webhook.id == webhook_id)
            return (await session.execute(query)).scalar_one_or_none()

    @whole
    async def remove(self, tenant: str, webhook_id: str) -> bool:
        """Remove a webhook with its deliveries; False where there is none."""
        async with self._writing.begin() as connection:
            done: CursorResult[Any] = await connection.execute(
                delete(Webhook).where(Webhook.tenant == tenant, Webhook.id == webhook_id)
            )
            return done.rowcount == 1

    @whole
    async def rotate(self, tenant: str, webhook_id: str, secret: str, *, overlap_ms: int) -> Webhook | None:
        """Sign with `secret` from now on, and for `overlap_ms` with the one before too; None where there is none."""
        async with self._writing.begin() as connection:
            await connection.execute(
                update(Webhook)
                .where(Webhook.tenant == tenant, Webhook.id == webhook_id)
                .values(old_secret=Webhook.secret, old_until=now_ms() + overlap_ms, secret=secret)
            )
        return await self.load(tenant, webhook_id)

    @whole
    async def disable(self, webhook_id: str, why: str) -> None:
        """Send nothing to it any more; what still waits for it fails."""
        async with self._writing.begin() as connection:
            await connection.execute(update(Webhook).where(Webhook.id == webhook_id).values(disabled=why))
            await connection.execute(
                update(Delivery)
                .where(Delivery.webhook_id == webhook_id, Delivery.status == "pending")
                .values(status="failed")
            )

    @whole
    async def test(self, webhook_id: str) -> Delivery:
        """A delivery that says nothing but that deliveries arrive."""
        (row,) = outbox.rows([webhook_id], "webhook.test", {"id": webhook_id, "object": "webhook"})
        async with self._writing.begin() as connection:
            await connection.execute(insert(Delivery), [row])
        return Delivery(**row)

    @whole
    async def deliveries(
        self, webhook_id: str, *, limit: int, before: str | None = None, status: str | None = None
    ) -> Sequence[Delivery]:
        """Newest first, those older than `before`."""
        query = select(Delivery).where(Delivery.webhook_id == webhook_id).order_by(Delivery.id.desc()).limit(limit)
        if before is not None:
            query = query.where(Delivery.id < before)
        if status is not None:
            query = query.where(Delivery.status == status)
        async with AsyncSession(self._reading) as session:
            return (await session.execute(query)).scalars().all()

    @whole
    async def redeliver(self, webhook_id: str, delivery_id: str) -> Delivery | None:
        """Begin a delivery again, under its event id, with all its tries; None where there is no such delivery."""
        async with self._writing.begin() as connection:
            await connection.execute(
                update(Delivery)
                .where(Delivery.id == delivery_id, Delivery.webhook_id == webhook_id)
                .values(status="pending", tries=0, due_at=now_ms())
            )
        async with AsyncSession(self._reading) as session:
            query = select(Delivery).where(Delivery.id == delivery_id, Delivery.webhook_id == webhook_id)
            return (await session.execute(query)).scalar_one_or_none()

    async def take(self, *, limit: int, each: int, busy: Collection[str], lease_ms: int) -> Sequence[Due]:
        """Deliveries that are due, at most `each` of a webhook and none of the `busy` ones, for this process alone.

        Until `lease_ms` has passed no other process takes them; after it, their process is taken for dead.
        """
        # Most of the time there is nothing, and nothing to lock.
        if not await self._glance(_anything_due, now=now_ms(), busy=list(busy)):
            return []
        return await self._take(limit, each, busy, lease_ms)

    @whole
    async def _take(self, limit: int, each: int, busy: Collection[str], lease_ms: int) -> Sequence[Due]:
        now = now_ms()
        turn = func.row_number().over(partition_by=Delivery.webhook_id, order_by=Delivery.due_at)
        due = select(Delivery.id, Delivery.due_at, turn.label("turn")).where(
            Delivery.status == "pending", Delivery.due_at <= now, Delivery.webhook_id.not_in(busy)
        )
        ranked = due.subquery()
        chosen = select(ranked.c.id).where(ranked.c.turn <= each).order_by(ranked.c.due_at).limit(limit)
        async with self._writing.begin() as connection:
            # Where two processes chose the same row, the second finds it no longer due and leaves it.
            taken = await connection.execute(
                update(Delivery)
                .where(Delivery.id.in_(chosen), Delivery.status == "pending", Delivery.due_at <= now)
                .values(due_at=now + lease_ms, tries=Delivery.tries + 1)
                .returning(Delivery.id)
            )
            mine = taken.scalars().all()
            query = (
                select(Delivery, Webhook.url, Webhook.secret, Webhook.old_secret, Webhook.old_until)
                .join(Webhook, Webhook.id == Delivery.webhook_id)
                .where(Delivery.id.in_(mine))
            )
            found = (await connection.execute(query)).all()
        return [
            Due(
                row.id,
                row.webhook_id,
                row.url,
                (row.secret, row.old_secret) if row.old_until and row.old_until > now else (row.secret,),
                row.event_id,
                row.event,
                row.body,
                row.tries,
                row.log,
            )
            for row in found
        ]

    @whole
    async def tried(self, due: Due, entry: Json, *, status: str, due_at: int) -> None:
        """Write down what came of a try, unless another process has taken the delivery over since."""
        async with self._writing.begin() as connection:
            await connection.execute(
                update(Delivery)
                .where(Delivery.id == due.id, Delivery.tries == due.tries, Delivery.status == "pending")
                .values(status=status, due_at=due_at, log=[*due.log, entry][-_LOG_LENGTH:])
            )
