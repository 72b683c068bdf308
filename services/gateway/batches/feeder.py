"""Turns the lines of started batches into claims, few at a time: behind all interactive work, fair between tenants."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog
from sqlalchemy.exc import IntegrityError

from services.common.jobs.payload import ClaimJob
from services.common.jobs.turns import Share
from services.common.serving.errors import NotFound, NotReady, Problem, Unprocessable
from services.gateway import failures, ids, schemas, withdrawn
from services.gateway.records.batch_rows import File, Line
from services.gateway.records.batch_work import Running
from services.gateway.records.changes import Finished
from services.gateway.records.new_photos import NewPhoto
from services.gateway.records.usage import today
from services.gateway.runtime import Runtime

log = structlog.get_logger(__name__)

STARTED = "batches"  # the signal that one was started
_AHEAD = 32  # claims of one tenant's batches under way: enough to keep the workers busy between two looks
_LOOK_S, _IDLE_S = 0.5, 5.0
_EXPIRES_MS = 7 * 24 * 3600 * 1000  # a batch that is not started within a week goes, and its photos with it


class Feeder:
    """`run` it in any number of workers: the records give each line to one of them."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def run(self) -> None:
        """Until cancelled; waits through lost records, stores and queues."""
        with self._runtime.signals.subscribe(STARTED) as started:
            while True:
                busy = False
                started.clear()
                try:
                    busy = await self.feed()
                except Problem as problem:
                    log.warning("batches wait", detail=problem.detail)
                except Exception:
                    log.exception("batches cannot be worked on")
                with suppress(TimeoutError):
                    await asyncio.wait_for(started.wait(), _LOOK_S if busy else _IDLE_S)

    async def feed(self) -> bool:
        """One look: end what is over, send what there is room for. Answers whether any batch is under way."""
        runtime = self._runtime
        for batch_id in await runtime.batch_work.forgotten(older_than_ms=_EXPIRES_MS):
            await close(runtime, batch_id, "expired")
        running = await runtime.batch_work.running()
        for batch in running:
            room = _AHEAD - await runtime.batch_work.open_claims(batch.tenant)
            if room > 0 and await self._within_quota(batch.tenant):
                for line in await runtime.batch_work.take(batch.id, room):
                    await self._send(batch, line)
            counts = await runtime.batches.counts(batch.id)
            if counts.done == counts.total:
                await close(runtime, batch.id, "succeeded")
        return bool(running)

    async def _send(self, batch: Running, line: Line) -> None:
        """Accept the line's claim and queue it: in this order, and never twice."""
        runtime = self._runtime
        files = await runtime.batch_work.files(line)
        if files is None:  # canceled since the line was taken
            return
        photos = _photos(line, files)
        errors = [photo.error for photo in photos if photo.error]
        if len(errors) == len(photos):
            await runtime.batch_work.fail(line, errors[0].model_dump())
            return
        claim_id = str(line.claim_id)
        try:
            await runtime.claims.accept(
                claim_id,
                photos,
                tenant=batch.tenant,
                external_ref=line.document.get("external_ref"),
                metadata=line.document.get("metadata") or {},
                batch=True,
            )
        except IntegrityError:
            log.info("a dead process had accepted this claim already", claim=claim_id)
        await runtime.batch_work.sent(line)
        if batch not in await runtime.batch_work.running():
            await _cancel_claims(runtime, batch.id)  # whoever canceled the batch may not have seen this one
            return
        try:
            share = Share(batch.tenant, len(photos), batch=True)
            await runtime.queue.add(claim_id, ClaimJob(claim_id).to_json(), share)
        except NotReady:
            log.warning("claim accepted while the queue is away; a worker queues it from the records", claim=claim_id)

    async def _within_quota(self, tenant: str) -> bool:
        """Whether the tenant may send photos today; its batches go on after midnight (UTC) otherwise."""
        most = self._runtime.quotas.of_tenant(tenant).photos_per_day
        return not most or (await self._runtime.usage.since(tenant, today())).photos < most


async def close(runtime: Runtime, batch_id: str, status: str) -> bool:
    """End the batch, and erase the photos that no claim has; False where it had ended already."""
    if not await runtime.batches.end(batch_id, status):
        return False
    log.info("batch ended", batch=batch_id, status=status)
    for photo_id in await runtime.batch_work.unused(batch_id):
        await runtime.photos.erase(photo_id)
    return True


async def cancel(runtime: Runtime, batch_id: str) -> None:
    """End the batch, and its claims that are under way."""
    await close(runtime, batch_id, "canceled")
    await _cancel_claims(runtime, batch_id)


async def _cancel_claims(runtime: Runtime, batch_id: str) -> None:
    for claim_id in await runtime.batch_work.under_way(batch_id):
        with suppress(Finished):
            await runtime.changes.cancel(claim_id)
        await withdrawn.tell(runtime, claim_id)


def _photos(line: Line, files: dict[str, File]) -> list[NewPhoto]:
    return [_photo(line, name, files.get(name)) for name in line.document["photos"]]


def _photo(line: Line, name: str, file: File | None) -> NewPhoto:
    if file is None:
        missing = NotFound(f"No part of the batch has a photo named {name[:100]!r}.")
        return NewPhoto(ids.new("pho"), None, 0, failures.embedded(missing))
    if file.line != line.number:
        taken = Unprocessable(f"The photo {name[:100]!r} belongs to line {file.line}. A photo belongs to one claim.")
        return NewPhoto(ids.new("pho"), None, 0, failures.embedded(taken))
    error = schemas.Error.model_validate(file.error) if file.error else None
    return NewPhoto(file.photo_id, file.sha256, file.bytes, error)
