"""The segmenter's routes: which model this is, and the parts, damages and fake damages of a photo."""

from __future__ import annotations

import asyncio

import numpy as np
from fastapi import FastAPI, Request
from numpy.typing import NDArray

import services
from services.common.serving import tensors
from services.common.serving.app import MEBIBYTE, create_app
from services.common.serving.disconnect import while_connected
from services.common.serving.modelhost import ModelHost
from services.common.serving.packshelf import PackName, PackShelf
from services.common.serving.schemas import ModelInfo, PackState, Segmentation
from services.common.serving.tensors import Spec
from services.segmenter import model
from services.segmenter.settings import Settings

_MAX_BODY_BYTES = 16 * MEBIBYTE  # a photo of 2048 x 2048 pixels, the largest the pipeline holds, is 12
_PHOTO = {"photo": Spec("uint8", (None, None, 3))}


def build_app(settings: Settings) -> FastAPI:
    """The app; it answers at once and is ready when the model is proven and warm."""
    shelf = PackShelf("segmenter", "segment", model.CONTRACT, settings)
    app = create_app(
        service="segmenter",
        version=services.VERSION,
        lifespan=shelf.lifespan,
        max_body_bytes=_MAX_BODY_BYTES,
        internal_key=settings.internal_key,
    )

    @app.get("/v1/info")
    async def info(pack: PackName = None) -> ModelInfo:
        """What runs here, on what, and how to read its numbers."""
        with shelf.using(pack) as host:
            return host.info()

    @app.get("/v1/packs")
    async def packs() -> list[PackState]:
        """Every version that is here, and which of them are loaded."""
        return await shelf.listed()

    @app.post("/v1/segment", openapi_extra=tensors.request_body("`photo`: uint8 [height, width, 3], upright RGB"))
    async def segment(request: Request, pack: PackName = None) -> Segmentation:
        """The damages and fake damages of a photo by score, then its parts, each with a mask."""
        photo = tensors.load(await request.body(), _PHOTO)["photo"].astype(np.uint8, copy=False)
        with shelf.using(pack) as host:
            return await while_connected(request, _segment(host, photo))

    async def _segment(host: ModelHost, photo: NDArray[np.uint8]) -> Segmentation:
        manifest, ref = host.pack.manifest, host.session.ref
        rows = await asyncio.to_thread(model.prepare, photo, manifest)
        outputs = await host.run(rows)
        return await asyncio.to_thread(model.read, outputs, manifest, ref)

    return app
