"""`/v1/keys`: an admin makes, lists and revokes the keys of its own tenant."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field

from services.common.serving.errors import KeyLimit, NotFound
from services.gateway import ids
from services.gateway.callers import Scope
from services.gateway.issue import issue
from services.gateway.records.clock import to_datetime
from services.gateway.records.keys import ApiKey, TooManyKeys
from services.gateway.routes.deps import Admin, Running
from services.gateway.schemas import Api

router = APIRouter(tags=["keys"])


class NewKey(Api):
    """What a key is for and may do. Two live keys may share a name: make the second, move over, revoke the first."""

    name: str = Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")
    scopes: list[Scope] = Field(min_length=1)
    expires_days: int | None = Field(None, ge=1, le=3650, description="Without it, it lives until it is revoked")


class Key(Api):
    """A key as it may be shown: `prefix` is how it begins."""

    id: str
    name: str
    prefix: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute")
    revoked_at: datetime | None


class MadeKey(Key):
    key: str = Field(description="The whole key. It is shown here and never again")


class KeyList(Api):
    data: list[Key]


@router.post("/v1/keys", status_code=201)
async def create(wanted: NewKey, runtime: Running, caller: Admin) -> MadeKey:
    """Make a key of this tenant. The answer is the only place where it stands whole."""
    try:
        key, secret = await issue(
            runtime.keys,
            tenant=caller.tenant,
            name=wanted.name,
            scopes=wanted.scopes,
            expires_days=wanted.expires_days,
        )
    except TooManyKeys:
        raise KeyLimit(f"{wanted.name!r} has two live keys. Revoke one, or choose another name.") from None
    return MadeKey(**_shown(key).model_dump(), key=secret.text)


@router.get("/v1/keys")
async def listed(runtime: Running, caller: Admin) -> KeyList:
    """This tenant's keys, newest first, revoked ones too."""
    return KeyList(data=[_shown(key) for key in await runtime.keys.list(caller.tenant)])


@router.delete("/v1/keys/{key_id}")
async def revoke(key_id: Annotated[str, Path(max_length=40)], runtime: Running, caller: Admin) -> Key:
    """End a key: at once in this process, within five seconds in others. Again is no error."""
    key = await runtime.keys.revoke(key_id, caller.tenant) if ids.valid("key", key_id) else None
    if key is None:
        raise NotFound("There is no such key. Key ids look like key_ and 26 letters and digits")
    runtime.callers.forget(key.prefix)
    return _shown(key)


def _shown(key: ApiKey) -> Key:
    return Key.model_validate(
        {
            "id": key.id,
            "name": key.name,
            "prefix": key.prefix,
            "scopes": key.scopes,
            "created_at": to_datetime(key.created_at),
            **{
                name: None if (moment := getattr(key, name)) is None else to_datetime(moment)
                for name in ("expires_at", "last_used_at", "revoked_at")
            },
        }
    )
