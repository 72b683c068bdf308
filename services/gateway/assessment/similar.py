"""Past cases that resemble regions of a photo: the damages on it, or one that the caller names."""

from __future__ import annotations

import asyncio

import numpy as np

from services.common.serving.errors import NotReady
from services.common.serving.schemas import Box, ModelRef
from services.common.vision.crops import cut_crops
from services.common.vision.photo import open_photo
from services.common.vision.vote import calibrated
from services.gateway.assessment.clients import Clients
from services.gateway.assessment.policy import Policy
from services.gateway.instant_schemas import Similar, SimilarCases


async def similar(
    data: bytes, box: Box | None, clients: Clients, policy: Policy, *, k: int, tenant: str
) -> SimilarCases:
    """For each region its `k` nearest past cases that `tenant` may see, nearest first; no region, no cases.

    Raises PhotoError for a photo that cannot be used and Problem where a service cannot answer.
    """
    photo = await asyncio.to_thread(open_photo, data, max_pixels=policy.max_pixels)
    _, info = await clients.matching()
    models: dict[str, ModelRef] = {}
    regions: list[tuple[Box, str | None]] = [(box, None)] if box else []
    if box is None:
        seen = await clients.segmenter.segment(photo.pixels)
        models["segmenter"] = seen.model
        damages = sorted((i for i in seen.instances if i.kind == "damage"), key=lambda damage: -damage.score)
        regions = [(damage.box, damage.label) for damage in damages[: policy.max_findings]]
    if not regions:
        return SimilarCases(data=[], models=models)
    crops = await asyncio.to_thread(
        cut_crops,
        photo.pixels,
        [region for region, _ in regions],
        size=info.input_height,
        resize=info.resize,
        context=info.context,
    )
    answer = await clients.classifier.classify(crops)
    memory = await clients.retrieval.info()
    if memory.backbone != info.backbone:
        raise NotReady("The memory was made by another classifier than the one that answers. Ask the operator.")
    found = await clients.retrieval.search(answer.embedding, k=k, tenant=tenant)
    classes = info.vocabulary.classes
    likely = calibrated(answer.logits, info.temperature, np.isin(classes, info.supported.get("classes", []))).argmax(1)
    return SimilarCases(
        data=[
            Similar(box=region, damage=damage, opinion=classes[int(likely[n])], neighbours=found[n])
            for n, (region, damage) in enumerate(regions)
        ],
        models={**models, "classifier": answer.model},
    )
