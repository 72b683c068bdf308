"""A finding cut out of its photo: for people's eyes, and as the classifier's embedding for the memory."""

from __future__ import annotations

import asyncio
import io
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.common.serving.errors import NotFound
from services.common.serving.protocols import Classifier
from services.common.serving.schemas import Box, Classification, ModelInfo
from services.common.vision.crops import cut_crops
from services.common.vision.photo import PhotoError, downscale, open_photo
from services.gateway.failures import photo_problem
from services.gateway.photos import PhotoStore

_AT_ONCE = 2  # a decode takes a core
_KEPT = 256  # embeddings; a case that is open is asked for twice: its neighbours, then the decision
_SIDE = 4096  # pixels of the photo that a close-up is cut from: scratches are thinner than the walk's 2048 show
_MARGIN = 0.6  # of the box, on each side
_LEAST = 0.16  # of the photo: a tiny damage without anything around it says nothing


def surroundings(box: Sequence[float]) -> Box:
    """The part of the photo that a close-up shows: the box with a margin, within [0, 1]."""
    x0, y0, x1, y1 = box
    half = [max((b - a) * (0.5 + _MARGIN), _LEAST / 2) for a, b in ((x0, x1), (y0, y1))]
    centre = (x0 + x1) / 2, (y0 + y1) / 2
    left, top = (max(0.0, c - h) for c, h in zip(centre, half, strict=True))
    right, bottom = (min(1.0, c + h) for c, h in zip(centre, half, strict=True))
    return round(left, 4), round(top, 4), round(right, 4), round(bottom, 4)


class Crops:
    def __init__(self, photos: PhotoStore, classifier: Classifier, *, max_pixels: int) -> None:
        self._photos = photos
        self._classifier = classifier
        self._max_pixels = max_pixels
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._embeddings: OrderedDict[tuple[str, str], NDArray[np.float32]] = OrderedDict()

    async def picture(self, photo_id: str, box: Sequence[float], *, side: int) -> bytes:
        """WebP of the box with its surroundings, at most `side` pixels wide or high. Raises Problem."""
        data = await self._photo(photo_id)
        async with self._turn:
            return await asyncio.to_thread(_picture, data, surroundings(box), side, self._max_pixels)

    async def embedding(self, finding_id: str, photo_id: str, box: Sequence[float]) -> tuple[NDArray[np.float32], str]:
        """float32 [1, d] and the backbone that made it. Raises Problem."""
        info = await self._classifier.info()
        known = self._embeddings.get((finding_id, info.backbone))
        if known is not None:
            return known, info.backbone
        made = (await self.classified(photo_id, box, info)).embedding
        self._embeddings[finding_id, info.backbone] = made
        while len(self._embeddings) > _KEPT:
            self._embeddings.popitem(last=False)
        return made, info.backbone

    async def classified(self, photo_id: str, box: Sequence[float], info: ModelInfo) -> Classification:
        """What the classifier, which is as `info` says, answers to the box cut out. Raises Problem."""
        data = await self._photo(photo_id)
        async with self._turn:
            crop = await asyncio.to_thread(_crop, data, box, info, self._max_pixels)
        return await self._classifier.classify(crop)

    async def _photo(self, photo_id: str) -> bytes:
        try:
            return await self._photos.get_photo(photo_id)
        except LookupError:
            raise NotFound("The photo's bytes are no longer kept") from None


def _picture(data: bytes, box: Box, side: int, max_pixels: int) -> bytes:
    try:
        pixels = open_photo(data, max_side=_SIDE, max_pixels=max_pixels).pixels
    except PhotoError as error:
        raise photo_problem(error) from error
    height, width = pixels.shape[:2]
    left, top, right, bottom = (round(share * length) for share, length in zip(box, (width, height) * 2, strict=True))
    region = pixels[top : max(bottom, top + 1), left : max(right, left + 1)]
    out = io.BytesIO()
    Image.fromarray(downscale(np.ascontiguousarray(region), side)).save(out, "WEBP", quality=85, method=2)
    return out.getvalue()


def _crop(data: bytes, box: Sequence[float], info: ModelInfo, max_pixels: int) -> NDArray[np.uint8]:
    """Exactly what the classifier saw: the same pixels, cut by the same function as in the walk."""
    try:
        pixels = open_photo(data, max_pixels=max_pixels).pixels
    except PhotoError as error:
        raise photo_problem(error) from error
    return cut_crops(pixels, [list(box)], size=info.input_height, resize=info.resize, context=info.context)
