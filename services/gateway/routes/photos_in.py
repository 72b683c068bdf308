"""Photos of an upload, checked and kept: what a new claim and an open one that gets more of them have in common.

A photo that cannot be used fails alone. Only where no photo at all can be used is the request refused: the caller then
knows at once, and nothing is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import Request

from services.common.serving.errors import (
    Generated,
    NotReady,
    PayloadTooLarge,
    Problem,
    Unprocessable,
    UnsupportedMediaType,
)
from services.common.vision.photo import PhotoError, check_photo
from services.gateway import failures, fields, ids, schemas
from services.gateway.generated.registry import GENERATED
from services.gateway.records.new_photos import NewPhoto
from services.gateway.runtime import Runtime
from services.gateway.upload import Received, Upload, receive

_FETCHES = 4  # of a claim's photo URLs at once

PHOTO_FIELDS: dict[str, Any] = {
    "photos": {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "description": "JPEG, PNG, WebP or HEIC; repeat the field for each photo",
    },
    "photo_url": {
        "type": "array",
        "items": {"type": "string", "format": "uri", "maxLength": 2000},
        "description": "A photo to fetch, in place of its bytes, from a host that the operator allows",
    },
    "view": {
        "type": "array",
        "items": {"type": "string", "enum": ["", *fields.VIEWS]},
        "description": "What each photo shows, in the photos' order; empty where it is not known",
    },
}


def form(**properties: Any) -> dict[str, Any]:
    """The OpenAPI request body of an upload with photos."""
    schema = {"type": "object", "properties": PHOTO_FIELDS | properties}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


@asynccontextmanager
async def uploaded(runtime: Runtime, request: Request) -> AsyncIterator[Upload]:
    """The upload as `receive` answers it, with the photos that came as URLs fetched as far as they can be."""
    settings = runtime.settings
    async with receive(request, max_photos=settings.max_photos, max_photo_bytes=settings.max_photo_bytes) as upload:
        by_url = [photo for photo in upload.photos if photo.url is not None]
        if by_url and not runtime.fetching.on:
            raise Unprocessable("Photo URLs are not taken here. Send the photos themselves in the field photos.")
        hands = asyncio.Semaphore(_FETCHES)

        async def one(photo: Received) -> None:
            async with hands:
                try:
                    await _fetch(runtime, upload, photo)
                except Problem as problem:
                    photo.problem = problem

        await asyncio.gather(*map(one, by_url))
        yield upload


async def _fetch(runtime: Runtime, upload: Upload, photo: Received) -> None:
    data = await runtime.fetching.fetch((photo.url or b"").decode("utf-8", "replace").strip())
    limit = runtime.settings.max_claim_bytes
    if sum(each.size for each in upload.photos) + len(data) > limit:
        raise PayloadTooLarge(f"The photos of a claim may have {limit} bytes together.")
    photo.size = len(data)
    await asyncio.to_thread(photo.write, data, to_disk=True)


async def named(upload: Upload) -> list[str | bytes | None]:
    """What the upload asks for, for a fingerprint: each photo's hash, and every text."""
    hashes = [photo.sha256 if photo.url is None else photo.url for photo in upload.photos]
    texts = [part for name in sorted(upload.texts) for part in (name, upload.texts[name])]
    return [*hashes, "views", *upload.views, "texts", *texts]


@asynccontextmanager
async def kept(runtime: Runtime, upload: Upload, first_id: str | None = None) -> AsyncIterator[list[NewPhoto]]:
    """The photos, checked and in the store. Where the caller then raises, nothing of them stays.

    Raises Problem: Unprocessable (no photo, a view that is none), or the first photo's own where none can be used.
    """
    if not upload.photos:
        raise Unprocessable("There is no photo; send at least one, for example: curl -F photos=@car.jpg")
    views = fields.views(upload.views, len(upload.photos))
    photos: list[NewPhoto] = []
    problems: list[Problem] = []
    try:
        for received, view in zip(upload.photos, views, strict=True):
            photo_id = first_id if first_id and not photos else ids.new("pho")
            try:
                photos.append(await _keep(runtime, photo_id, received, view))
            except Problem as problem:
                if isinstance(problem, NotReady):  # the store's, not the photo's
                    raise
                problems.append(problem)
                photos.append(NewPhoto(photo_id, None, received.size, failures.embedded(problem), view))
        if len(problems) == len(photos):
            raise _none_usable(problems)
        yield photos
    except Exception:
        with suppress(NotReady):
            for photo in photos:
                runtime.ahead.forget(photo.id)
                await runtime.photos.erase(photo.id)
        raise


async def _keep(runtime: Runtime, photo_id: str, photo: Received, view: schemas.View | None) -> NewPhoto:
    """Store the photo. Raises its Problem as far as its size, its header and its hash tell; NotReady of the store."""
    if photo.problem:
        raise photo.problem
    if photo.too_large:
        limit = runtime.settings.max_photo_bytes
        raise PayloadTooLarge(f"The photo has {photo.size} bytes; {limit} are allowed. Send a smaller one.")
    try:
        data = await asyncio.to_thread(_checked, photo, runtime.settings.max_photo_pixels)
    except PhotoError as error:
        problem = failures.photo_problem(error)
        if isinstance(problem, UnsupportedMediaType) and not photo.as_file:
            problem.detail += " It came as text: curl sends a file where its name has an @ before it, photos=@car.jpg."
        raise problem from None
    if await runtime.registry.exact(photo.sha256):
        raise Generated(GENERATED)
    runtime.ahead.begin(photo_id, data)
    await runtime.photos.put_photo(photo_id, data)
    return NewPhoto(photo_id, photo.sha256, photo.size, None, view)


def _checked(photo: Received, max_pixels: int) -> bytes:
    data = photo.read()
    check_photo(data, max_pixels=max_pixels)
    return data


def _none_usable(problems: list[Problem]) -> Problem:
    """The first photo's problem, with every photo's beside it."""
    first = problems[0]
    first.extra = {"photos": [failures.embedded(each).model_dump() for each in problems]}
    return first
