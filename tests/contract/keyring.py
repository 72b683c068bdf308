"""A gateway with keys, for tests: tenants and what they may."""

from __future__ import annotations

from pathlib import Path

from services.gateway.callers import SCOPES, Scope
from services.gateway.issue import issue
from services.gateway.records.database import Database
from services.gateway.records.keys import KeyStore


async def key(folder: Path, tenant: str, *scopes: Scope, name: str = "test", expires_days: int | None = None) -> str:
    """A new key of the gateway whose records lie in `folder`; without scopes, one with all."""
    database = Database(f"sqlite:///{folder / 'records.db'}")
    try:
        await database.upgrade()
        store = KeyStore(database)
        _, secret = await issue(store, tenant=tenant, name=name, scopes=scopes or SCOPES, expires_days=expires_days)
    finally:
        await database.close()
    return secret.text


def bearing(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
