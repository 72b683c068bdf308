"""Retrieval's routes: which memory this is, and the past cases nearest to some embeddings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Annotated, Any

import numpy as np
import structlog
from fastapi import FastAPI, Query, Request
from numpy.typing import NDArray
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

import services
from services.common.serving import folderlock, tensors
from services.common.serving.app import create_app
from services.common.serving.errors import InvalidRequest, NotReady, PayloadTooLarge, Unprocessable
from services.common.serving.folderlock import FolderUnusable
from services.common.serving.health import Readiness
from services.common.serving.modelpack import PackError, load_pack
from services.common.serving.schemas import Case, Kept, MemoryStats, Neighbour, RetrievalInfo, Snapshot
from services.common.serving.tensors import Spec
from services.common.vision.size import SizeClass
from services.common.vision.vote import NEIGHBOURS
from services.retrieval.memory import Memory
from services.retrieval.rows import Entry
from services.retrieval.settings import Settings

log = structlog.get_logger(__name__)

_MAX_K = 100
_MAX_EMBEDDINGS = 256  # in one search: more crops than a photo has
_EMBEDDING = {"embedding": Spec("float32", (None, None))}


def _name(description: str) -> Any:
    return Query(min_length=1, max_length=120, description=description)


Tenant = Annotated[str, _name("whose case it is")]
Reviewer = Annotated[str | None, _name("who says so")]


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
        except (PackError, FolderUnusable, OSError, SQLAlchemyError) as error:
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
        space = memory.space
        return RetrievalInfo(state="ready", backbone=space.backbone, embedding_dim=space.dimension, rows=len(memory))

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

    app = create_app(
        service="retrieval",
        version=services.VERSION,
        lifespan=lifespan,
        readiness=retrieval.readiness,
        internal_key=settings.internal_key,
    )

    @app.get("/v1/info")
    async def info() -> RetrievalInfo:
        """Which memory this is: how many cases, and which backbone's embeddings it understands."""
        return retrieval.info()

    @app.post("/v1/search", openapi_extra=tensors.request_body("`embedding`: float32 [n, d], rows of length 1"))
    async def search(
        request: Request,
        *,
        k: Annotated[int, Query(ge=1, le=_MAX_K, description="neighbours per embedding")] = NEIGHBOURS,
        tenant: Annotated[str | None, _name("whose cases are found beside the shared ones")] = None,
        exclude_claim: Annotated[str | None, _name("leave this claim's own crops out")] = None,
        backbone: Annotated[str | None, _name("refuse unless the memory was made by this backbone")] = None,
        size: Annotated[SizeClass | None, Query(description="only cases of this size")] = None,
        label: Annotated[str | None, _name("only cases with this label, which a person or the claim gave")] = None,
    ) -> list[list[Neighbour]]:
        """For each embedding its nearest past cases, nearest first.

        Never filter by what a model said of the same crop: the answer could only agree with it.
        """
        memory = retrieval.memory
        embeddings = _embeddings(await request.body())
        if len(embeddings) > _MAX_EMBEDDINGS:
            raise PayloadTooLarge(f"At most {_MAX_EMBEDDINGS} embeddings in one search; send several.")
        return await asyncio.to_thread(
            memory.search,
            embeddings,
            k=k,
            tenant=tenant,
            exclude_claim=exclude_claim,
            backbone=backbone,
            size=size,
            label=label,
        )

    @app.post(
        "/v1/cases", openapi_extra=tensors.request_body("`embedding`: float32 [1, d]; its metadata: `case` as JSON")
    )
    async def add(request: Request, tenant: Tenant, backbone: Annotated[str, _name("what embedded the crop")]) -> Kept:
        """Keep a labelled crop. It counts in the next search; sent again it changes nothing."""
        memory, body = retrieval.memory, await request.body()
        embeddings = _embeddings(body)
        if len(embeddings) != 1:
            raise InvalidRequest("embedding: one case at a time.")
        try:
            case = Case.model_validate_json(tensors.metadata(body).get("case", ""))
        except ValidationError as error:
            raise Unprocessable(f"The metadata `case` is not valid: {error.errors()[0]['msg']}.") from error
        return await asyncio.to_thread(memory.add, case, embeddings[0], tenant=tenant, backbone=backbone)

    @app.post("/v1/cases/{case_id}/correct", status_code=204)
    async def correct(
        case_id: str, tenant: Tenant, label: Annotated[str, _name("the right one")], reviewer: Reviewer = None
    ) -> None:
        """Give a case another label."""
        await asyncio.to_thread(retrieval.memory.correct, case_id, label, tenant=tenant, reviewer=reviewer)

    @app.post("/v1/cases/{case_id}/retract", status_code=204)
    async def retract(case_id: str, tenant: Tenant, reviewer: Reviewer = None) -> None:
        """Take a case back: answers are as if it had never been added. Its row and the log keep what was."""
        await asyncio.to_thread(retrieval.memory.retract, case_id, tenant=tenant, reviewer=reviewer)

    @app.get("/v1/stats")
    async def stats(tenant: Tenant) -> MemoryStats:
        """What the memory holds for a tenant, how it searches, and which snapshots there are."""
        return await asyncio.to_thread(retrieval.memory.stats, tenant)

    @app.get("/v1/log")
    async def entries(tenant: Tenant, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[Entry]:
        """What was done to a tenant's cases, newest first: kept, known, refused, corrected, retracted."""
        return await asyncio.to_thread(retrieval.memory.log, tenant, limit=limit)

    @app.post("/v1/snapshots")
    async def snapshot() -> Snapshot:
        """Copy all added cases, every tenant's."""
        return await asyncio.to_thread(retrieval.memory.snapshot)

    @app.post("/v1/snapshots/{name}/restore")
    async def restore(name: str) -> Snapshot:
        """Make the added cases exactly those of a snapshot."""
        return await asyncio.to_thread(retrieval.memory.restore, name)

    return app


def _embeddings(body: bytes) -> NDArray[np.float32]:
    return tensors.load(body, _EMBEDDING)["embedding"].astype(np.float32, copy=False)
