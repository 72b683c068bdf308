"""Pictures made from a claim's photo when they are first asked for, then kept. Upright, smaller, without metadata."""

from __future__ import annotations

import asyncio

import numpy as np

from services.common.serving.errors import NotFound
from services.common.vision import masks
from services.common.vision.overlay import OverlayItem, draw_overlay
from services.common.vision.photo import PhotoError, open_photo
from services.gateway.assessment.route import rejected
from services.gateway.failures import photo_problem
from services.gateway.photos import PhotoStore, Picture
from services.gateway.schemas import Finding, Lookalike, Photo

_AT_ONCE = 2  # drawing takes a core; everybody else waits their turn instead of slowing all down


class Pictures:
    def __init__(self, photos: PhotoStore, *, max_pixels: int) -> None:
        self._photos = photos
        self._max_pixels = max_pixels
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def get(self, kind: Picture, photo: Photo) -> bytes:
        """WebP: the photo alone (`preview`), or with findings drawn on it (`overlay`).

        An overlay with a person's decisions is drawn each time: they may decide again.
        """
        lasting = kind == "preview" or not any(finding.review for finding in photo.findings)
        kept = await self._photos.get_picture(kind, photo.id) if lasting else None
        if kept is not None:
            return kept
        async with self._turn:
            data = await self._original(photo)
            picture = await asyncio.to_thread(_draw, data, photo if kind == "overlay" else None, self._max_pixels)
        if lasting:
            await self._photos.put_picture(kind, photo.id, picture)
        return picture

    async def _original(self, photo: Photo) -> bytes:
        try:
            return await self._photos.get_photo(photo.id)
        except LookupError:
            raise NotFound("The photo's bytes are no longer kept") from None


def _draw(data: bytes, photo: Photo | None, max_pixels: int) -> bytes:
    try:
        pixels = open_photo(data, max_side=1280, max_pixels=max_pixels).pixels
    except PhotoError as error:
        raise photo_problem(error) from error
    items = [*map(_lookalike, photo.lookalikes)] if photo else []
    items += [_damage(finding) for finding in photo.findings if not rejected(finding)] if photo else []
    return draw_overlay(np.ascontiguousarray(pixels), items)


def _damage(finding: Finding) -> OverlayItem:
    return OverlayItem(
        box=finding.box,
        label=finding.title if finding.review else f"{finding.title} {finding.title_confidence:.0%}",
        kind="review" if finding.route == "review" else "damage",
        mask=masks.decode(finding.mask.size, finding.mask.counts),
    )


def _lookalike(fake: Lookalike) -> OverlayItem:
    return OverlayItem(fake.box, fake.display, "fake", masks.decode(fake.mask.size, fake.mask.counts))
