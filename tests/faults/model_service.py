"""A fake model service behind the real HTTP contract: `python -m tests.faults.model_service segmenter PORT DELAY_S`.

As a process of its own it can be killed like a real one; it only starts and answers faster.
"""

from __future__ import annotations

import sys

import numpy as np
from fastapi import Request, Response

from services.common.serving import tensors
from services.common.serving.app import create_app
from services.common.serving.run import serve
from services.common.serving.schemas import ModelInfo, Neighbour, RetrievalInfo, Segmentation
from services.common.serving.settings import ServiceSettings
from services.common.serving.tensors import Spec
from tests.unit.gateway.fakes import Fakes


def main(name: str, port: str, delay_s: str) -> None:
    app = create_app(service=name, version="fake")
    fakes = Fakes()
    fakes.segmenter.delay_s = float(delay_s)

    @app.get("/v1/info")
    async def info() -> ModelInfo | RetrievalInfo:
        told: ModelInfo | RetrievalInfo = await getattr(fakes, name).info()
        return told

    @app.post("/v1/segment")
    async def segment(request: Request) -> Segmentation:
        photo = tensors.load(await request.body(), {"photo": Spec("uint8", (None, None, 3))})["photo"]
        return await fakes.segmenter.segment(photo.astype(np.uint8))

    @app.post("/v1/classify")
    async def classify(request: Request) -> Response:
        crops = tensors.load(await request.body(), {"crops": Spec("uint8", (None, None, None, 3))})["crops"]
        found = await fakes.classifier.classify(crops.astype(np.uint8))
        outputs = {"logits": found.logits, "gates": found.gates, "embedding": found.embedding}
        return Response(tensors.dump(outputs, {"model": found.model.model_dump_json()}), media_type=tensors.MEDIA_TYPE)

    @app.post("/v1/search")
    async def search(request: Request, k: int) -> list[list[Neighbour]]:
        embedding = tensors.load(await request.body(), {"embedding": Spec("float32", (None, None))})["embedding"]
        return await fakes.retrieval.search(embedding.astype(np.float32), k=k)

    serve(app, ServiceSettings.model_validate({"port": int(port), "log_level": "warning", "grace_seconds": 0}))


if __name__ == "__main__":
    main(*sys.argv[1:])
