"""Receiving one part of a batch: an archive, read to its end first, then photo by photo into the store."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import IO, Protocol

from fastapi import Request

from services.common.serving.errors import PayloadTooLarge, Problem
from services.common.vision.photo import PhotoError, check_photo
from services.gateway import failures, ids, upload
from services.gateway.batches.archive import Entry, entries
from services.gateway.records.models import Json
from services.gateway.runtime import Runtime

_IN_MEMORY = 1024 * 1024  # bytes of a body before it moves to a temporary file


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body in a file without a name."""

    file: IO[bytes]
    sha256: str
    bytes: int


@asynccontextmanager
async def spooled(request: Request) -> AsyncIterator[Body]:
    """The whole body, hashed; it is gone when the context ends."""
    digest, size = hashlib.sha256(), 0
    with ExitStack() as opened:
        file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - `close` bears with a full disk
        opened.callback(upload.close, file)
        try:
            async for chunk in request.stream():
                size += len(chunk)
                await asyncio.to_thread(_write, file, digest, chunk)
            file.seek(0)
        except OSError as error:
            raise upload.no_room(error) from error
        yield Body(file, digest.hexdigest(), size)


async def receive(runtime: Runtime, batch_id: str, number: int, body: Body) -> None:
    """Keep the archive's photos. All of them or none: what is broken half-way leaves nothing.

    A photo that is no usable one is kept as an error of its own. Raises Problem.
    """
    kept: list[Json] = []
    limits = runtime.settings
    found = entries(body.file, max_entries=limits.max_batch_photos, max_photo_bytes=limits.max_photo_bytes)
    try:
        while (entry := await asyncio.to_thread(_next, found)) is not None:
            kept.append(await _keep(runtime, batch_id, number, entry))
        part = {"batch_id": batch_id, "number": number, "sha256": body.sha256, "bytes": body.bytes}
        replaced = await runtime.batches.put_part({**part, "photos": len(kept)}, kept)
    except BaseException:
        await asyncio.shield(_erase(runtime, [row["photo_id"] for row in kept]))
        raise
    await _erase(runtime, replaced)


async def _keep(runtime: Runtime, batch_id: str, number: int, entry: Entry) -> Json:
    problem = await asyncio.to_thread(_problem, runtime, entry)
    photo_id = ids.new("pho")
    row: Json = {"batch_id": batch_id, "name": entry.name, "part": number, "photo_id": photo_id, "bytes": entry.size}
    if problem is not None or entry.data is None:
        error = failures.embedded(problem) if problem else None
        return {**row, "sha256": None, "error": error and error.model_dump()}
    await runtime.photos.put_photo(photo_id, entry.data)
    return {**row, "sha256": await asyncio.to_thread(_sha256, entry.data), "error": None}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _problem(runtime: Runtime, entry: Entry) -> Problem | None:
    limits = runtime.settings
    if entry.data is None:
        return PayloadTooLarge(f"The photo has {entry.size} bytes; {limits.max_photo_bytes} are allowed.")
    try:
        check_photo(entry.data, max_pixels=limits.max_photo_pixels)
    except PhotoError as error:
        return failures.photo_problem(error)
    return None


async def _erase(runtime: Runtime, photo_ids: Sequence[str]) -> None:
    for photo_id in photo_ids:
        await runtime.photos.erase(photo_id)


def _next(found: Iterator[Entry]) -> Entry | None:
    return next(found, None)


def _write(file: IO[bytes], digest: _Hash, chunk: bytes) -> None:
    digest.update(chunk)
    file.write(chunk)
