"""`GET /v1/models`: which models answer here, on what, and which names they know."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import APIRouter

from services.common.serving.errors import Problem
from services.common.serving.schemas import ModelInfo, RetrievalInfo
from services.gateway.failures import embedded
from services.gateway.routes.deps import Reader, Running
from services.gateway.schemas import Api, Error

Info = TypeVar("Info")
router = APIRouter(tags=["models"])


class Models(Api):
    """A service that does not answer is shown with its error; the others are still shown."""

    segmenter: ModelInfo | Error
    classifier: ModelInfo | Error
    memory: RetrievalInfo | Error


@router.get("/v1/models")
async def models(runtime: Running, _caller: Reader) -> Models:
    """The models behind this gateway, exactly: name, version, hash, precision, provider, limits, supported names."""
    await runtime.rules.follow()
    clients = runtime.clients
    segmenter, classifier, memory = await asyncio.gather(
        _or_error(clients.segmenter.info(fresh=True)),
        _or_error(clients.classifier.info(fresh=True)),
        _or_error(clients.retrieval.info()),
    )
    return Models(segmenter=segmenter, classifier=classifier, memory=memory)


async def _or_error(question: Awaitable[Info]) -> Info | Error:
    try:
        return await question
    except Problem as problem:
        return embedded(problem)
