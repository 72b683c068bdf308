"""Sending what the outbox holds: signed, tried again with growing pauses, at least once and under one event id."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from datetime import UTC, datetime

import structlog
from sqlalchemy.exc import SQLAlchemyError
from standardwebhooks import Webhook as Signer

import services
from services.common.serving.ending import end
from services.common.serving.errors import UrlNotAllowed
from services.common.serving.telemetry import WEBHOOK_DELIVERIES
from services.gateway.outbound import Outbound, Unreachable
from services.gateway.records.clock import now_ms, to_datetime
from services.gateway.records.webhooks import Due, WebhookStore

log = structlog.get_logger(__name__)

TRIES = 8
_MINUTE, _HOUR = 60.0, 3600.0
_PAUSES_S = (5.0, _MINUTE, 10 * _MINUTE, _HOUR, 3 * _HOUR, 7 * _HOUR, 13 * _HOUR)  # 24 h from the first try to the last
_JITTER = 0.2  # so that a receiver that comes back is not met by everything at once
_TIMEOUT_S = 15.0
_LEASE_MS = 60_000  # well above the timeout: only a dead process's deliveries are taken over
_MAX_ANSWER_BYTES = 64 * 1024  # nothing in the answer matters but its status
_AT_ONCE, _AT_ONCE_EACH = 16, 2  # a receiver that hangs holds two places, not all
_LOOK_S, _IDLE_S = 0.5, 1.5  # a look is a transaction: with nothing under way there are fewer
_GONE = 410


class Sender:
    """`run` until cancelled. What is being sent then is sent again by another process after its lease."""

    def __init__(self, webhooks: WebhookStore, outbound: Outbound) -> None:
        self._webhooks = webhooks
        self._outbound = outbound
        self._sending: dict[asyncio.Task[None], str] = {}

    async def run(self) -> None:
        try:
            while True:
                try:
                    await self._begin_due()
                except SQLAlchemyError as error:
                    log.warning("deliveries cannot be read", error=type(error).__name__)
                except Exception:  # ended in silence, no event would ever leave here again
                    log.exception("deliveries cannot be read")
                await self._pause()
        finally:
            await end(*self._sending)

    async def _begin_due(self) -> None:
        held = list(self._sending.values())
        busy = {webhook for webhook in held if held.count(webhook) >= _AT_ONCE_EACH}
        if len(held) == _AT_ONCE:
            return
        for due in await self._webhooks.take(
            limit=_AT_ONCE - len(held), each=_AT_ONCE_EACH, busy=busy, lease_ms=_LEASE_MS
        ):
            task = asyncio.create_task(self._try(due))
            self._sending[task] = due.webhook_id
            task.add_done_callback(lambda done: self._sending.pop(done, None))

    async def _pause(self) -> None:
        """Until one ends, which makes room, or for a moment."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(_IDLE_S)

    async def _try(self, due: Due) -> None:
        begun = time.perf_counter()
        status, error = await self._send(due)
        entry = {
            "at": to_datetime(now_ms()).isoformat(timespec="milliseconds"),
            "status": status,
            "error": error,
            "ms": round((time.perf_counter() - begun) * 1000),
        }
        arrived = status is not None and 200 <= status < 300
        last = due.tries >= TRIES or status == _GONE
        outcome = "delivered" if arrived else "failed" if last else "pending"
        WEBHOOK_DELIVERIES.labels(due.event, outcome).inc()
        log.info("webhook tried", delivery=due.id, attempt=due.tries, status=status, outcome=outcome)
        with suppress(SQLAlchemyError):  # not written down: sent again after the lease, under the same event id
            await self._webhooks.tried(due, entry, status=outcome, due_at=now_ms() + pause_ms(due.tries))
            if status == _GONE:
                await self._webhooks.disable(due.webhook_id, "The receiver answered 410 Gone.")

    async def _send(self, due: Due) -> tuple[int | None, str | None]:
        """The receiver's status, or why there is none."""
        now = datetime.now(UTC)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"Claimsight/{services.VERSION}",
            "webhook-id": due.event_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(Signer(each).sign(due.event_id, now, due.body) for each in due.secrets),
        }
        try:
            answer = await self._outbound.request(
                "POST",
                due.url,
                headers=headers,
                body=due.body.encode(),
                timeout_s=_TIMEOUT_S,
                max_bytes=_MAX_ANSWER_BYTES,
            )
        except UrlNotAllowed as refused:
            return None, refused.detail
        except Unreachable as error:
            return None, str(error)
        except Exception:  # a delivery that nobody foresaw must not end the sending of all others
            log.exception("a delivery failed in an unforeseen way", delivery=due.id)
            return None, "The delivery failed here; the log says more."
        redirected = 300 <= answer.status < 400
        return answer.status, "Redirects are not followed. Register the final address." if redirected else None


def pause_ms(tries: int) -> int:
    """How long to wait after the try of this number (from 1), with jitter."""
    seconds = _PAUSES_S[min(tries, len(_PAUSES_S)) - 1]
    return round(1000 * seconds * random.uniform(1 - _JITTER, 1 + _JITTER))
