"""Webhooks as clients of `/v1` see them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, get_args

from pydantic import Field

from services.gateway.schemas import Api

ClaimEvent = Literal["claim.completed", "claim.failed", "claim.canceled", "claim.expired"]
DeliveryStatus = Literal["pending", "delivered", "failed"]
_ALL: list[ClaimEvent] = list(get_args(ClaimEvent))


class NewWebhook(Api):
    url: Annotated[
        str,
        Field(
            min_length=1,
            max_length=2000,
            pattern=r"^[^\x00]*$",
            description="where events are POSTed: https, public, port 443 or 8443",
            examples=["https://example.org/hooks/claimsight"],
        ),
    ]
    events: Annotated[list[ClaimEvent], Field(min_length=1, max_length=len(_ALL))] = _ALL


class Webhook(Api):
    """A receiver of this tenant's events. `disabled` says why nothing is sent to it any more."""

    id: str
    object: Literal["webhook"] = "webhook"
    url: str
    events: list[ClaimEvent]
    disabled: str | None
    created_at: datetime


class WebhookWithSecret(Webhook):
    secret: str = Field(description="Verifies signatures (Standard Webhooks). Shown this once: keep it.")


class Rotation(Api):
    overlap_hours: float = Field(
        24, gt=0, le=168, description="how long the secret that is replaced signs beside the new one"
    )


class WebhookList(Api):
    object: Literal["list"] = "list"
    data: list[Webhook]


class DeliveryTry(Api):
    at: datetime
    status: int | None = Field(description="The receiver's HTTP status; null where it gave none")
    error: str | None
    ms: int


class Delivery(Api):
    """One event on its way to one receiver. Every try carries the same `event_id` (the header `webhook-id`)."""

    id: str
    object: Literal["delivery"] = "delivery"
    event_id: str
    event: str
    claim_id: str | None
    status: DeliveryStatus
    tries: int
    next_try_at: datetime | None
    log: list[DeliveryTry]
    created_at: datetime


class DeliveryList(Api):
    object: Literal["list"] = "list"
    data: list[Delivery]
    next_page_token: str | None = None
