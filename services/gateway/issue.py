"""Making a key known: the one way for the command, the routes and the admin key of the settings."""

from __future__ import annotations

import re
from collections.abc import Iterable

from services.gateway import apikeys, ids
from services.gateway.callers import DEFAULT_TENANT, SCOPES, Scope
from services.gateway.records.clock import now_ms
from services.gateway.records.keys import ApiKey, KeyStore

_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_DAY_MS = 24 * 3600 * 1000


def valid_tenant(text: str) -> bool:
    return _TENANT.fullmatch(text) is not None


async def issue(
    keys: KeyStore,
    *,
    tenant: str,
    name: str,
    scopes: Iterable[Scope],
    expires_days: int | None = None,
    secret: apikeys.Secret | None = None,
) -> tuple[ApiKey, apikeys.Secret]:
    """The new key and its secret, which nothing here keeps. Raises TooManyKeys."""
    secret = secret or apikeys.make()
    row = await keys.add(
        ids.new("key"),
        tenant=tenant,
        name=name,
        prefix=secret.prefix,
        sha256=secret.sha256,
        scopes=list(scopes),
        expires_at=None if expires_days is None else now_ms() + expires_days * _DAY_MS,
    )
    return row, secret


async def seed(keys: KeyStore, secret: apikeys.Secret) -> None:
    """Make the settings' admin key known. One that was revoked stays so: a restart must not bring it back."""
    if await keys.find(secret.prefix) is None:
        await issue(keys, tenant=DEFAULT_TENANT, name=f"settings {secret.prefix}", scopes=SCOPES, secret=secret)
