"""Whether the gateway may open its door: never without keys where others can reach it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from alembic.util import CommandError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from services.common.serving.settings import InvalidSettings, is_loopback
from services.gateway import apikeys
from services.gateway.issue import seed
from services.gateway.records.database import Database
from services.gateway.records.keys import KeyStore
from services.gateway.settings import Settings


async def check(settings: Settings) -> None:
    """Make the settings' admin key known. Raises InvalidSettings where anybody could come in."""
    async with records(settings) as database:
        keys = KeyStore(database)
        if settings.admin_key is not None:
            await seed(keys, apikeys.Secret(settings.admin_key.get_secret_value()))
        guarded = await keys.any()
    if not (guarded or settings.dev or is_loopback(settings.host)):
        raise InvalidSettings(
            f"Listening on {settings.host} would let others in without a key. Make one first:\n"
            "  python -m services.gateway.keys create --tenant default --name first --scope admin --scope submit "
            "--scope read\n"
            "or listen on 127.0.0.1, or, for development only, set CLAIMSIGHT_GATEWAY_DEV=true."
        )


@asynccontextmanager
async def records(settings: Settings) -> AsyncIterator[Database]:
    """The records in this version's schema. Raises InvalidSettings where they cannot be opened."""
    try:
        database = Database(settings.records)
    except OSError as error:
        raise InvalidSettings(_closed(settings, error.strerror)) from error
    try:
        try:
            await database.upgrade()
        except DBAPIError as error:
            raise InvalidSettings(_closed(settings, error.orig)) from error
        except CommandError as error:  # a revision that this version does not know
            raise InvalidSettings(
                f"The records at {_shown(settings)} were made by a newer version ({error}). Start that one again, or "
                "restore the backup from before the upgrade."
            ) from error
        yield database
    finally:
        await database.close()


def _closed(settings: Settings, why: object) -> str:
    return (
        f"The records at {_shown(settings)} cannot be opened: {' '.join(str(why).split())}. Is the database "
        "running, and may the gateway's user write there? "
        "CLAIMSIGHT_GATEWAY_DATABASE_URL and CLAIMSIGHT_GATEWAY_DATA name another place."
    )


def _shown(settings: Settings) -> str:
    return make_url(settings.records).render_as_string(hide_password=True)
