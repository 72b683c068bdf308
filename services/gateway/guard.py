"""Whether the gateway may open its door: never without keys where others can reach it."""

from __future__ import annotations

from services.common.serving.settings import InvalidSettings, is_loopback
from services.gateway import apikeys
from services.gateway.issue import seed
from services.gateway.records.database import Database
from services.gateway.records.keys import KeyStore
from services.gateway.settings import Settings


async def check(settings: Settings) -> None:
    """Make the settings' admin key known. Raises InvalidSettings where anybody could come in."""
    database = Database(settings.records)
    try:
        await database.upgrade()
        keys = KeyStore(database)
        if settings.admin_key is not None:
            await seed(keys, apikeys.Secret(settings.admin_key.get_secret_value()))
        guarded = await keys.any()
    finally:
        await database.close()
    if not (guarded or settings.dev or is_loopback(settings.host)):
        raise InvalidSettings(
            f"Listening on {settings.host} would let others in without a key. Make one first:\n"
            "  python -m services.gateway.keys create --tenant default --name first --scope admin --scope submit "
            "--scope read\n"
            "or listen on 127.0.0.1, or, for development only, set CLAIMSIGHT_GATEWAY_DEV=true."
        )
