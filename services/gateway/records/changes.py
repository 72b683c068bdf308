"""What a tenant may change of a claim that is not finished: give it more photos, or cancel it.

Both begin by taking the claim's row, as everything does that writes to a claim: a worker that is about to finish it
waits, or was first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import CursorResult, func, insert, select, update

from services.gateway.records import outbox, usage
from services.gateway.records.clock import now_ms
from services.gateway.records.database import Database
from services.gateway.records.models import OPEN, Claim, Photo
from services.gateway.records.new_photos import NewPhoto, photo_rows
from services.gateway.records.usage import Bounds, Used
from services.gateway.records.whole import whole


class Finished(Exception):
    """The claim takes no change any more (or is gone): nothing was written."""


class TooMany(Exception):
    """The claim would have more photos than it may."""


class Changes:
    """Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._reading = database.reading
        self._writing = database.writing

    @whole
    async def has_photo(self, photo_id: str) -> bool:
        async with self._reading.connect() as connection:
            return (await connection.execute(select(Photo.id).where(Photo.id == photo_id))).first() is not None

    @whole
    async def add_photos(
        self, claim_id: str, photos: Sequence[NewPhoto], *, tenant: str, at_most: int, bounds: Bounds
    ) -> None:
        """Append photos. Once this returns, the claim is not finished without them.

        Raises Finished, TooMany, and OverQuota where the tenant would have more photos than its `bounds`.
        """
        async with self._writing.begin() as connection:
            held: CursorResult[Any] = await connection.execute(
                update(Claim).where(Claim.id == claim_id, Claim.status.in_(OPEN)).values(status=Claim.status)
            )
            if held.rowcount != 1:
                raise Finished(claim_id)
            query = select(func.count()).where(Photo.claim_id == claim_id)
            there = int((await connection.execute(query)).scalar_one())
            if there + len(photos) > at_most:
                raise TooMany(claim_id)
            await usage.count(connection, tenant, Used(0, len(photos), sum(photo.bytes for photo in photos)), bounds)
            await connection.execute(insert(Photo), photo_rows(claim_id, photos, first=there))

    @whole
    async def cancel(self, claim_id: str) -> None:
        """Cancel the claim; its attempt is counted up, so that no worker can write to it any more. Raises Finished."""
        async with self._writing.begin() as connection:
            done: CursorResult[Any] = await connection.execute(
                update(Claim)
                .where(Claim.id == claim_id, Claim.status.in_(OPEN))
                .values(status="canceled", attempt=Claim.attempt + 1, completed_at=now_ms())
            )
            if done.rowcount != 1:
                raise Finished(claim_id)
            await outbox.announce(connection, claim_id)
