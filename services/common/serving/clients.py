"""The typed clients of the model services (`protocols`), over a network or in one process.

The same class serves both: only the HTTP client underneath differs (`over_network`, `in_process`). Problem documents
come back as the Problem they were; no connection is NotReady, no answer in time is DeadlineExceeded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Self, TypeVar
from urllib.parse import quote

import httpx2
import numpy as np
from numpy.typing import NDArray
from pydantic import SecretStr, TypeAdapter, ValidationError
from starlette.types import ASGIApp

from services.common.serving import raised, tensors, tracing
from services.common.serving.context import current
from services.common.serving.errors import DeadlineExceeded, NotFound, NotReady, PackRefused, Problem
from services.common.serving.internal import bearer
from services.common.serving.schemas import (
    Case,
    Classification,
    Kept,
    MemoryStats,
    ModelInfo,
    ModelRef,
    Neighbour,
    PackState,
    RetrievalInfo,
    Segmentation,
    Snapshot,
    Wire,
)
from services.common.serving.tensors import Spec
from services.common.vision.resample import band, resize
from services.common.vision.size import SizeClass

W = TypeVar("W", bound=Wire)

PATIENCE_S = 60.0  # longest wait for an answer, however far away the caller's deadline is
_CONNECT_S = 2.0  # our services are neighbours: who does not take the call in this time is not there


def over_network(base_url: str, internal_key: SecretStr | None = None) -> httpx2.AsyncClient:
    """A client with kept-alive connections to the service at `base_url`, which is shown the `internal_key`."""
    headers = {} if internal_key is None else bearer(internal_key.get_secret_value())
    return httpx2.AsyncClient(
        base_url=base_url, headers=headers, transport=httpx2.AsyncHTTPTransport(retries=1), trust_env=False
    )


def in_process(app: ASGIApp) -> httpx2.AsyncClient:
    """A client that calls `app` directly: no socket, the same bytes. The app's lifespan is its owner's business."""
    return httpx2.AsyncClient(base_url="http://in-process", transport=httpx2.ASGITransport(app))


class _Service:
    """What the three clients share: sending with the request's context, and turning failures into problems."""

    name: str

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def _get(self, path: str) -> httpx2.Response:
        return await self._send("GET", path)

    async def _post(
        self, path: str, arrays: Mapping[str, NDArray[np.generic]], params: Mapping[str, str | int] | None = None
    ) -> httpx2.Response:
        body = tensors.dump(arrays)
        return await self._send("POST", path, body, {"Content-Type": tensors.MEDIA_TYPE}, params)

    async def _send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str | int] | None = None,
    ) -> httpx2.Response:
        context = current()
        remaining = context.remaining_s
        left = PATIENCE_S if remaining is None else min(remaining, PATIENCE_S)
        if left <= 0:
            raise DeadlineExceeded(f"No time was left to ask the {self.name}.")
        try:
            # The timeout of the HTTP client counts between bytes; this one counts the whole exchange.
            with tracing.span(self.name, {"http.request.method": method}, kind="CLIENT"):
                async with asyncio.timeout(left):
                    answer = await self._http.request(
                        method,
                        path,
                        content=body,
                        params=dict(params) if params else None,
                        headers={**context.headers(), **(headers or {})},
                        timeout=httpx2.Timeout(left, connect=min(_CONNECT_S, left)),
                    )
                tracing.note({"http.response.status_code": answer.status_code})
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise NotReady(f"The {self.name} cannot be reached. Is it running?") from error
        except (TimeoutError, httpx2.TimeoutException) as error:
            raise DeadlineExceeded(f"The {self.name} did not answer within {left:.1f} s.") from error
        except httpx2.TransportError as error:
            raise NotReady(f"The connection to the {self.name} broke. Try again.") from error
        if answer.is_error:
            raise raised.problem(answer, self.name)
        return answer

    def _unexpected(self) -> Problem:
        return Problem(f"The {self.name} answered in a form that is not known here. Do both run the same release?")


class _ModelService(_Service):
    """A service with one model, whose info is asked once and again when another model answers."""

    def __init__(self, http: httpx2.AsyncClient, pack: str | None = None) -> None:
        super().__init__(http)
        self.pack = pack
        self._infos: dict[str | None, ModelInfo] = {}  # by version: of the two that a service holds, and of few before

    def at(self, pack: str | None) -> Self:
        pinned = type(self)(self._http, pack)
        pinned._infos = self._infos
        return pinned

    async def packs(self) -> list[PackState]:
        answer = await self._send("GET", "/v1/packs")
        try:
            return _PACKS.validate_json(answer.content)
        except ValidationError as error:
            raise self._unexpected() from error

    async def info(self, *, fresh: bool = False) -> ModelInfo:
        pack = self.pack
        if pack not in self._infos or fresh:
            answer = await self._send("GET", "/v1/info", params=_given(pack=pack))
            try:
                info = ModelInfo.model_validate_json(answer.content)
            except ValidationError as error:
                raise self._unexpected() from error
            if info.state != "ready":
                raise NotReady(info.notes or f"The {self.name} is {info.state}. Ask again in a moment.")
            self._infos[pack] = info
        return self._infos[pack]

    async def _ask(self, path: str, arrays: Mapping[str, NDArray[np.generic]]) -> httpx2.Response:
        """POST; a refusal that only means that another model came up behind the same address is NotReady.

        The arrays were made for the model that was known here: they are no fault of whoever sent the photo.
        """
        known = self._infos.get(self.pack)
        try:
            return await self._post(path, arrays, _given(pack=self.pack))
        except (NotFound, PackRefused) as lost:
            raise NotReady(lost.detail) from lost
        except Problem as problem:
            if known is None or problem.status >= 500 or (await self.info(fresh=True)).model == known.model:
                raise
            raise NotReady(f"Another model came up in the {self.name}. Try again.") from problem

    def _seen(self, model: ModelRef) -> None:
        known = self._infos.get(self.pack)
        if known is not None and known.model != model:  # another pack came up behind the same address
            del self._infos[self.pack]


class HttpSegmenter(_ModelService):
    name = "segmenter"

    async def segment(self, pixels: NDArray[np.uint8]) -> Segmentation:
        info = await self.info()
        if pixels.shape[:2] != (info.input_height, info.input_width):
            # Only what the model looks at travels: a 2048-px photo would be ten times the bytes.
            pixels = await _resized(pixels, info.input_height, info.input_width)
        answer = await self._ask("/v1/segment", {"photo": pixels})
        try:
            segmentation = Segmentation.model_validate_json(answer.content)
        except ValidationError as error:
            raise self._unexpected() from error
        self._seen(segmentation.model)
        return segmentation


class HttpClassifier(_ModelService):
    name = "classifier"

    async def classify(self, crops: NDArray[np.uint8]) -> Classification:
        answer = await self._ask("/v1/classify", {"crops": crops})
        try:
            rows = tensors.load(answer.content, {name: Spec("float32", (len(crops), None)) for name in _CLASSIFIED})
            model = ModelRef.model_validate_json(tensors.metadata(answer.content).get("model", ""))
        except (Problem, ValidationError) as error:
            raise self._unexpected() from error
        self._seen(model)
        logits, gates, embedding = (rows[name].astype(np.float32, copy=False) for name in _CLASSIFIED)
        return Classification(model, logits, gates, embedding)


class HttpRetrieval(_Service):
    name = "retrieval"

    async def info(self) -> RetrievalInfo:
        return self._read(RetrievalInfo, await self._get("/v1/info"))

    async def search(
        self,
        embeddings: NDArray[np.float32],
        *,
        k: int,
        tenant: str | None = None,
        backbone: str | None = None,
        exclude_claim: str | None = None,
        size: SizeClass | None = None,
        label: str | None = None,
    ) -> list[list[Neighbour]]:
        params = _given(k=k, tenant=tenant, backbone=backbone, exclude_claim=exclude_claim, size=size, label=label)
        answer = await self._post("/v1/search", {"embedding": embeddings}, params)
        try:
            return _NEIGHBOURS.validate_json(answer.content)
        except ValidationError as error:
            raise self._unexpected() from error

    async def add(self, case: Case, embedding: NDArray[np.float32], *, tenant: str, backbone: str) -> Kept:
        body = tensors.dump({"embedding": embedding[None]}, {"case": case.model_dump_json()})
        headers = {"Content-Type": tensors.MEDIA_TYPE}
        params = {"tenant": tenant, "backbone": backbone}
        return self._read(Kept, await self._send("POST", "/v1/cases", body, headers, params))

    async def correct(self, case_id: str, label: str, *, tenant: str, reviewer: str | None = None) -> None:
        await self._send(
            "POST", f"{_case(case_id)}/correct", params=_given(tenant=tenant, label=label, reviewer=reviewer)
        )

    async def retract(self, case_id: str, *, tenant: str, reviewer: str | None = None) -> None:
        await self._send("POST", f"{_case(case_id)}/retract", params=_given(tenant=tenant, reviewer=reviewer))

    async def snapshot(self) -> Snapshot:
        return self._read(Snapshot, await self._send("POST", "/v1/snapshots"))

    async def restore(self, name: str) -> Snapshot:
        return self._read(Snapshot, await self._send("POST", f"/v1/snapshots/{quote(name, safe='')}/restore"))

    async def stats(self, *, tenant: str) -> MemoryStats:
        return self._read(MemoryStats, await self._send("GET", "/v1/stats", params={"tenant": tenant}))

    def _read(self, kind: type[W], answer: httpx2.Response) -> W:
        try:
            return kind.model_validate_json(answer.content)
        except ValidationError as error:
            raise self._unexpected() from error


async def _resized(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """`resize`, in threads; a large photo in two at once, because nothing else can be done about it meanwhile."""
    if pixels.size < _LARGE:
        return await asyncio.to_thread(resize, pixels, height, width)
    halves = (0, height // 2), (height // 2, height)
    return np.concatenate(await asyncio.gather(*(asyncio.to_thread(band, pixels, height, width, h) for h in halves)))


def _case(case_id: str) -> str:
    return f"/v1/cases/{quote(case_id, safe='')}"


def _given(**params: str | int | None) -> dict[str, str | int]:
    return {name: value for name, value in params.items() if value is not None}


_LARGE = 3_000_000  # values of pixels; below, it takes a millisecond
_CLASSIFIED = ("logits", "gates", "embedding")
_NEIGHBOURS = TypeAdapter(list[list[Neighbour]])
_PACKS = TypeAdapter(list[PackState])
