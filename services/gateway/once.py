"""A POST that carries an Idempotency-Key is carried out once, however often it is sent."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Header

from services.common.serving.errors import IdempotencyConflict, IdempotencyMismatch, InvalidRequest
from services.gateway.callers import Caller
from services.gateway.records.clock import now_ms
from services.gateway.records.idempotency import IdempotencyStore

_DEAD_MS = 60_000  # the body is read before this begins: what then takes longer has died
_SANE = re.compile(r"[\x21-\x7e]{1,255}")

IdempotencyKey = Annotated[
    str | None,
    Header(
        description="Any 1 to 255 visible ASCII characters, a UUID say. The same key with the same content within 24 "
        "hours makes nothing new and answers with what the first request made"
    ),
]

REPLAYED = {  # for OpenAPI
    "Idempotency-Replayed": {
        "description": "`true` where an earlier request with this Idempotency-Key made it",
        "schema": {"type": "string"},
    }
}


def fingerprint(*parts: str | bytes | None) -> str:
    """SHA-256 over the parts and their lengths: what a request asks for, in one name."""
    digest = hashlib.sha256()
    for part in parts:
        data = b"" if part is None else part if isinstance(part, bytes) else part.encode()
        digest.update(f"{-1 if part is None else len(data)}:".encode() + data)
    return digest.hexdigest()


@asynccontextmanager
async def once(
    store: IdempotencyStore,
    caller: Caller,
    key: str | None,
    *,
    fingerprint: str,
    new_id: str,
    made: Callable[[str], Awaitable[bool]],
) -> AsyncIterator[tuple[str, bool]]:
    """The id under which to make what was asked for, and whether an earlier request has made it already.

    Without a key that is `new_id`, not made. `made` tells whether there is a thing with an id. Where the caller's code
    raises, the key is free again. Raises IdempotencyConflict, IdempotencyMismatch, InvalidRequest.
    """
    if key is None:
        yield new_id, False
        return
    if not _SANE.fullmatch(key):
        raise InvalidRequest("Idempotency-Key takes 1 to 255 visible ASCII characters, for example a UUID")
    resource = new_id
    entry = await store.enter(caller.tenant, key, fingerprint, new_id)
    if entry is not None:
        if entry.fingerprint != fingerprint:
            raise IdempotencyMismatch("This Idempotency-Key came with other content. Use a new key for a new request.")
        resource = entry.resource
        if await made(resource):
            yield resource, True
            return
        if now_ms() - entry.since < _DEAD_MS or not await store.take_over(entry):
            raise IdempotencyConflict("The first request with this Idempotency-Key is at work. Ask again in a moment.")
    try:
        yield resource, False
    except Exception:
        if not await made(resource):
            await store.leave(caller.tenant, key)
        raise
