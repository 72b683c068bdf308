"""Events are written in the transaction that makes them true, and sent from there: none is lost, none is told twice.

(What is sent may still arrive twice: a receiver whose answer is lost is asked again, under the same event id.)
"""

from __future__ import annotations

import json
from typing import Literal, get_args

from sqlalchemy import bindparam, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.gateway import ids
from services.gateway.records.clock import now_ms, to_datetime
from services.gateway.records.models import Claim, Json
from services.gateway.records.webhook_rows import Delivery, Webhook

Event = Literal["claim.completed", "claim.failed", "claim.canceled", "claim.expired", "webhook.test"]
EVENTS: tuple[Event, ...] = get_args(Event)

_BY_STATUS: dict[str, Event] = {
    "succeeded": "claim.completed",
    "failed": "claim.failed",
    "canceled": "claim.canceled",
    "expired": "claim.expired",
}

# One statement, written down once: most tenants have no receiver, and then it is all that a claim's end asks.
_receivers = (
    select(Webhook.id, Webhook.events, Claim.status, Claim.external_ref, Claim.partial, Claim.route)
    .join(Claim, Claim.tenant == Webhook.tenant)
    .where(Claim.id == bindparam("claim"), Webhook.disabled.is_(None))
)


async def announce(connection: AsyncConnection, claim_id: str) -> None:
    """Tell every receiver of the claim's tenant what the claim has just become, in the caller's transaction."""
    receivers = (await connection.execute(_receivers, {"claim": claim_id})).all()
    if not receivers:
        return
    claim = receivers[0]
    event = _BY_STATUS.get(claim.status)
    wanting = [row.id for row in receivers if event in row.events]
    if event is None or not wanting:
        return
    # Ids and outcomes only: findings and photos are for whoever holds a key, and stay where they can be erased.
    data = {
        "id": claim_id,
        "object": "claim",
        "status": claim.status,
        "external_ref": claim.external_ref,
        "partial": claim.partial,
        "route": claim.route,
        "links": {"self": f"/v1/claims/{claim_id}"},
    }
    await connection.execute(insert(Delivery), rows(wanting, event, data, claim_id))


def rows(webhook_ids: list[str], event: Event, data: Json, claim_id: str | None = None) -> list[Json]:
    """New deliveries of one event, due at once. The body's form is the one that Standard Webhooks recommends."""
    now = now_ms()
    body = {"type": event, "timestamp": to_datetime(now).isoformat(timespec="milliseconds"), "data": data}
    event_id = ids.new("evt")
    return [
        {
            "id": ids.new("dlv"),
            "webhook_id": webhook_id,
            "claim_id": claim_id,
            "event_id": event_id,
            "event": event,
            "body": json.dumps(body, separators=(",", ":")),
            "status": "pending",
            "tries": 0,
            "due_at": now,
            "log": [],
            "created_at": now,
        }
        for webhook_id in webhook_ids
    ]
