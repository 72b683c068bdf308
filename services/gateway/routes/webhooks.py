"""Webhooks: where events are sent to, what was sent, and sending it again."""

from __future__ import annotations

import base64
import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from services.common.serving.errors import NotFound, Unprocessable
from services.gateway import ids
from services.gateway.callers import Caller, Requires
from services.gateway.records import webhook_rows
from services.gateway.records.clock import to_datetime
from services.gateway.routes import paging
from services.gateway.routes.deps import Running
from services.gateway.webhooks import schemas

router = APIRouter(tags=["webhooks"])

_MOST = 20  # of a tenant
# Whoever says where a tenant's events go may let them go anywhere: that is for its administrators.
_Admin = Annotated[Caller, Depends(Requires("admin"))]


async def _found(webhook_id: str, runtime: Running, caller: _Admin) -> webhook_rows.Webhook:
    found = await runtime.webhooks.load(caller.tenant, webhook_id) if ids.valid("whk", webhook_id) else None
    if found is None:
        raise _no_such_webhook()
    return found


def _no_such_webhook() -> NotFound:
    return NotFound("There is no such webhook. GET /v1/webhooks lists those there are")


_Found = Annotated[webhook_rows.Webhook, Depends(_found)]


@router.post("/v1/webhooks", status_code=201)
async def register(new: schemas.NewWebhook, runtime: Running, caller: _Admin) -> schemas.WebhookWithSecret:
    """Have this tenant's events POSTed to a URL, signed as Standard Webhooks (standardwebhooks.com) says.

    The secret is shown in this answer only. Verify every delivery with it, and treat a `webhook-id` that came before
    as said already: deliveries come at least once. Answer with any 2xx within 15 s; other answers are tried again,
    8 times over 24 hours, and 410 ends the webhook.
    """
    await runtime.outbound.check(new.url)
    secret = _new_secret()
    events = [str(event) for event in dict.fromkeys(new.events)]
    row = await runtime.webhooks.register(caller.tenant, new.url, secret, events, limit=_MOST)
    if row is None:
        raise Unprocessable(f"There are {_MOST} webhooks already. Delete one that is no longer needed.")
    return schemas.WebhookWithSecret(**_webhook(row).model_dump(), secret=secret)


@router.get("/v1/webhooks")
async def listed(runtime: Running, caller: _Admin) -> schemas.WebhookList:
    """This tenant's webhooks, without their secrets."""
    return schemas.WebhookList(data=[_webhook(row) for row in await runtime.webhooks.list(caller.tenant)])


@router.get("/v1/webhooks/{webhook_id}")
async def read(webhook: _Found) -> schemas.Webhook:
    """One webhook, without its secret."""
    return _webhook(webhook)


@router.post("/v1/webhooks/{webhook_id}:rotate")
async def rotate(
    webhook: _Found, runtime: Running, caller: _Admin, wanted: schemas.Rotation | None = None
) -> schemas.WebhookWithSecret:
    """Give the webhook another secret, shown in this answer only. For a while both sign: no delivery is unverifiable.

    During the overlap `webhook-signature` holds two signatures with a space between them, as Standard Webhooks says;
    one that fits is enough. Rotating again ends the overlap: the secret before the last signs no more.
    """
    secret = _new_secret()
    overlap_ms = round((wanted or schemas.Rotation(overlap_hours=24)).overlap_hours * 3_600_000)
    row = await runtime.webhooks.rotate(caller.tenant, webhook.id, secret, overlap_ms=overlap_ms)
    if row is None:
        raise _no_such_webhook()
    return schemas.WebhookWithSecret(**_webhook(row).model_dump(), secret=secret)


@router.delete("/v1/webhooks/{webhook_id}", status_code=204)
async def remove(webhook: _Found, runtime: Running, caller: _Admin) -> Response:
    """Send nothing there any more, and forget what was sent."""
    await runtime.webhooks.remove(caller.tenant, webhook.id)
    return Response(status_code=204)


@router.post("/v1/webhooks/{webhook_id}:test", status_code=202)
async def test(webhook: _Found, runtime: Running) -> schemas.Delivery:
    """Send a `webhook.test` event. Its delivery, listed with all others, tells within seconds how it went."""
    _enabled(webhook)
    return _delivery(await runtime.webhooks.test(webhook.id))


@router.get("/v1/webhooks/{webhook_id}/deliveries")
async def deliveries(
    webhook: _Found,
    runtime: Running,
    status: schemas.DeliveryStatus | None = None,
    page_size: Annotated[int, Query(ge=1, le=100)] = 20,
    page_token: Annotated[str | None, Query(max_length=100, description="the last answer's next_page_token")] = None,
) -> schemas.DeliveryList:
    """What was and is to be sent there, newest first, with every try. `?status=failed` are those given up."""
    before = None if page_token is None else paging.opened("dlv", page_token)
    rows = await runtime.webhooks.deliveries(webhook.id, limit=page_size + 1, before=before, status=status)
    page = rows[:page_size]
    more = len(rows) > page_size
    return schemas.DeliveryList(
        data=[_delivery(row) for row in page], next_page_token=paging.token(page[-1].id) if more else None
    )


@router.post("/v1/webhooks/{webhook_id}/deliveries/{delivery_id}:redeliver", status_code=202)
async def redeliver(webhook: _Found, delivery_id: str, runtime: Running) -> schemas.Delivery:
    """Send a delivery again, whatever became of it: the same body under the same event id."""
    _enabled(webhook)
    row = await runtime.webhooks.redeliver(webhook.id, delivery_id) if ids.valid("dlv", delivery_id) else None
    if row is None:
        raise NotFound("The webhook has no such delivery")
    return _delivery(row)


def _new_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def _enabled(webhook: webhook_rows.Webhook) -> None:
    if webhook.disabled:
        raise Unprocessable(f"The webhook is disabled: {webhook.disabled} Delete it and register it again.")


def _webhook(row: webhook_rows.Webhook) -> schemas.Webhook:
    return schemas.Webhook.model_validate(
        {
            "id": row.id,
            "url": row.url,
            "events": row.events,
            "disabled": row.disabled,
            "created_at": to_datetime(row.created_at),
        }
    )


def _delivery(row: webhook_rows.Delivery) -> schemas.Delivery:
    return schemas.Delivery.model_validate(
        {
            "id": row.id,
            "event_id": row.event_id,
            "event": row.event,
            "claim_id": row.claim_id,
            "status": row.status,
            "tries": row.tries,
            "next_try_at": to_datetime(row.due_at) if row.status == "pending" else None,
            "log": row.log,
            "created_at": to_datetime(row.created_at),
        }
    )
