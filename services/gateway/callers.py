"""Who is calling: the tenant whose rows a request may touch, and what its key allows.

Every request under /v1 is asked for its key before anything else is looked at, so that no route can forget to. Without
any key ever made (development on loopback) every call is the tenant "default" with every scope.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Literal, cast, get_args

import structlog
from fastapi import Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from services.common.serving.errors import Forbidden, Unauthorized
from services.gateway import apikeys
from services.gateway.records.clock import now_ms
from services.gateway.records.keys import ApiKey, KeyStore

log = structlog.get_logger(__name__)

Scope = Literal["submit", "read", "review", "generate", "admin"]
SCOPES: frozenset[Scope] = frozenset(get_args(Scope))
DEFAULT_TENANT = "default"
COOKIE = "claimsight_key"  # how the page presents a key: a browser sends no headers for pictures

_REMEMBERED_S = 5.0  # so long a key that another process revoked may still be accepted here
_NOTE_USE_S = 60.0


@dataclass(frozen=True, slots=True)
class Caller:
    """`key_id` names the key that was presented; None where none is needed."""

    tenant: str
    key_id: str | None
    scopes: frozenset[Scope]


DEVELOPER = Caller(DEFAULT_TENANT, None, SCOPES)


class Callers:
    """From presented keys to callers; what the records said is remembered for a few seconds."""

    def __init__(self, keys: KeyStore) -> None:
        self._keys = keys
        self._guarded = False
        self._asked = -_REMEMBERED_S
        self._known: dict[str, tuple[float, ApiKey]] = {}
        self._noted: dict[str, float] = {}

    async def identify(self, presented: str | None) -> Caller:
        """Raises Unauthorized, in the same words whatever is wrong with the key."""
        if not await self._needs_key():
            return DEVELOPER
        if presented is None:
            raise Unauthorized("This needs an API key: send the header Authorization: Bearer csk_...")
        secret = apikeys.parse(presented)
        key = await self._find(secret) if secret else None
        if secret is None or key is None or not secret.matches(key.sha256) or not _live(key):
            raise Unauthorized("This API key is not known, has expired or was revoked. Ask your operator for another.")
        await self._note_use(key)
        return Caller(key.tenant, key.id, cast(frozenset[Scope], frozenset(key.scopes) & SCOPES))

    def forget(self, prefix: str) -> None:
        """A key that was revoked here is refused here at once."""
        self._known.pop(prefix, None)

    async def _needs_key(self) -> bool:
        if not self._guarded and time.monotonic() - self._asked >= _REMEMBERED_S:
            self._guarded = await self._keys.any()
            self._asked = time.monotonic()
        return self._guarded

    async def _find(self, secret: apikeys.Secret) -> ApiKey | None:
        seen, key = self._known.get(secret.prefix, (-_REMEMBERED_S, None))
        if key is not None and time.monotonic() - seen < _REMEMBERED_S:
            return key
        found = await self._keys.find(secret.prefix)
        if found is not None:  # keys that do not exist are not remembered: there is no end of them
            self._known[secret.prefix] = (time.monotonic(), found)
        return found

    async def _note_use(self, key: ApiKey) -> None:
        now = time.monotonic()
        if now - self._noted.get(key.id, -_NOTE_USE_S) >= _NOTE_USE_S:
            self._noted[key.id] = now
            try:
                await self._keys.used(key.id)
            except SQLAlchemyError as error:  # a full disk: what only reads is answered all the same
                log.warning("the use of a key cannot be noted", key=key.id, error=type(error).__name__)


class CallersMiddleware:
    """Identify the caller of everything under /v1 and hold it to its rate; `request.state.caller` says who it is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1"):
            await self.app(scope, receive, send)
            return
        runtime = scope["app"].state.runtime
        caller = await runtime.callers.identify(_presented(Headers(scope=scope)))
        structlog.contextvars.bind_contextvars(tenant=caller.tenant, key=caller.key_id)
        scope.setdefault("state", {})["caller"] = caller
        told = await runtime.rates.take(caller, reads=scope["method"] == "GET")

        async def limited(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in told.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, limited)


def _presented(headers: Headers) -> str | None:
    kind, _, credentials = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return credentials.strip()
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        cookie = None
    return cookie.value if cookie else None


def _live(key: ApiKey) -> bool:
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > now_ms())


def calling(request: Request) -> Caller:
    """Whoever sent this request, whatever its key allows."""
    return cast(Caller, request.state.caller)


class Requires(SecurityBase):
    """A FastAPI dependency: the caller, if its key has `scope`; raises Forbidden."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.model = HTTPBearer(description="An API key: csk_...")  # for OpenAPI
        self.scheme_name = "key"

    async def __call__(self, request: Request) -> Caller:
        found = calling(request)
        if self.scope not in found.scopes:
            raise Forbidden(f"This key has not the scope {self.scope!r}. Use one that has, or ask your operator.")
        return found
