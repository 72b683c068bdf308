"""The classifier's routes: which model this is, and what it says to damage crops."""

from __future__ import annotations

import numpy as np
from fastapi import FastAPI, Request, Response

import services
from services.classifier import model
from services.classifier.settings import Settings
from services.common.serving import tensors
from services.common.serving.app import MEBIBYTE, create_app
from services.common.serving.disconnect import while_connected
from services.common.serving.errors import PayloadTooLarge
from services.common.serving.packshelf import PackName, PackShelf
from services.common.serving.schemas import ModelInfo, PackState

_MAX_BODY_BYTES = 64 * MEBIBYTE  # 256 crops of 224 x 224 pixels are 37


def build_app(settings: Settings) -> FastAPI:
    """The app; it answers at once and is ready when the model is proven and warm."""
    shelf = PackShelf("classifier", "classify", model.CONTRACT, settings)
    app = create_app(
        service="classifier",
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

    @app.post(
        "/v1/classify",
        response_class=Response,
        responses={200: tensors.answer("`logits` [n, classes], `gates` [n, 5], `embedding` [n, d]: float32")},
        openapi_extra=tensors.request_body("`crops`: uint8 [n, size, size, 3], RGB"),
    )
    async def classify(request: Request, pack: PackName = None) -> Response:
        """Class logits, expert gates and the embedding of each crop; the metadata entry `model` says who answered."""
        with shelf.using(pack) as host:
            manifest, ref = host.pack.manifest, host.session.ref
            crops = tensors.load(await request.body(), model.crops(manifest))["crops"].astype(np.uint8, copy=False)
            if len(crops) > settings.max_crops:
                raise PayloadTooLarge(f"At most {settings.max_crops} crops in one request; send several.")
            outputs = await while_connected(request, host.run(crops))
        return Response(tensors.dump(outputs, {"model": ref.model_dump_json()}), media_type=tensors.MEDIA_TYPE)

    return app
