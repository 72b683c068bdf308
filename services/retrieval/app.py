"""Retrieval's routes: which memory this is, and the past cases nearest to some embeddings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Annotated

import numpy as np
import structlog
from fastapi import FastAPI, Query, Request
from sqlalchemy.exc import SQLAlchemyError

import services
from services.common.serving import folderlock, tensors
from services.common.serving.app import create_app
from services.common.serving.errors import NotReady, PayloadTooLarge
from services.common.serving.folderlock import FolderInUse
from services.common.serving.health import Readiness
from services.common.serving.modelpack import PackError, load_pack
from services.common.serving.schemas import Neighbour, RetrievalInfo
from services.common.serving.tensors import Spec
from services.retrieval.memory import Memory
from services.retrieval.settings import Settings

log = structlog.get_logger(__name__)

_MAX_K = 100
_MAX_EMBEDDINGS = 256  # in one search: more crops than a photo has
_EMBEDDING = {"embedding": Spec("float32", (None, None))}


class Retrieval:
    """The memory while it is being opened, once it is open, or why it could not be."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._memory: Memory | None = None
        self._failure = ""
        self._held = ExitStack()

    async def load(self) -> None:
        try:
            self._memory = await asyncio.to_thread(self._open)
        except (PackError, FolderInUse, OSError, SQLAlchemyError) as error:
            self._failure = str(error)
            log.error("the memory cannot be opened", error=self._failure)
        except Exception as error:  # whatever ChromaDB raises: who waits for the memory must hear that it will not come
            self._failure = f"The memory cannot be opened ({type(error).__name__}); retrieval's log says more."
            log.exception("the memory cannot be opened")

    def close(self) -> None:
        if self._memory is not None:
            self._memory.close()
        self._held.close()

    @property
    def memory(self) -> Memory:
        """Raises NotReady while there is none."""
        if self._memory is None:
            raise NotReady(self._failure or "The memory of past cases is being loaded. Ask again in a moment.")
        return self._memory

    async def readiness(self) -> Readiness:
        if self._memory is not None:
            return Readiness()
        return Readiness("failed" if self._failure else "loading", self._failure)

    def info(self) -> RetrievalInfo:
        memory = self.memory
        return RetrievalInfo(state="ready", backbone=memory.backbone, embedding_dim=memory.dimension, rows=len(memory))

    def _open(self) -> Memory:
        settings = self._settings
        self._held.enter_context(folderlock.held(settings.data))
        return Memory.open(load_pack(settings.pack), folder=settings.data, database_url=settings.rows_url)


def build_app(settings: Settings) -> FastAPI:
    """The app; it answers at once and is ready when the memory is open."""
    retrieval = Retrieval(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(retrieval.load())
        try:
            yield
        finally:
            await loading  # opening cannot be interrupted half-way; it takes seconds
            retrieval.close()

    app = create_app(service="retrieval", version=services.VERSION, lifespan=lifespan, readiness=retrieval.readiness)

    @app.get("/v1/info")
    async def info() -> RetrievalInfo:
        """Which memory this is: how many cases, and which backbone's embeddings it understands."""
        return retrieval.info()

    @app.post("/v1/search", openapi_extra=tensors.request_body("`embedding`: float32 [n, d], rows of length 1"))
    async def search(
        request: Request,
        k: Annotated[int, Query(ge=1, le=_MAX_K, description="neighbours per embedding")] = 15,
        exclude_claim: Annotated[
            str | None, Query(max_length=40, description="leave this claim's own crops out")
        ] = None,
        backbone: Annotated[
            str | None, Query(max_length=64, description="refuse unless the memory was made by this backbone")
        ] = None,
    ) -> list[list[Neighbour]]:
        """For each embedding its nearest past cases, nearest first."""
        memory = retrieval.memory
        embeddings = tensors.load(await request.body(), _EMBEDDING)["embedding"].astype(np.float32, copy=False)
        if len(embeddings) > _MAX_EMBEDDINGS:
            raise PayloadTooLarge(f"At most {_MAX_EMBEDDINGS} embeddings in one search; send several.")
        return await asyncio.to_thread(memory.search, embeddings, k=k, exclude_claim=exclude_claim, backbone=backbone)

    return app
