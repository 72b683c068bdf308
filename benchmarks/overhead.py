"""What Claimsight adds to its models: a claim's wall-clock time against decode + segmenter run + classifier run.

Both are measured in one process, in turn, with the same packs, providers and threads. The claim goes the whole way:
HTTP upload over loopback, checks, photo store, committed records, queue, worker, memory, findings, answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx2
import numpy as np
from fastapi import FastAPI

from services.classifier import model as classifying
from services.classifier.settings import Settings as ClassifierSettings
from services.common.serving.modelhost import ModelHost
from services.common.serving.schemas import ModelRef
from services.common.vision.crops import cut_crops
from services.common.vision.photo import open_photo
from services.segmenter import model as segmenting
from services.segmenter.settings import Settings as SegmenterSettings


@dataclass(frozen=True)
class Round:
    """Milliseconds of one round."""

    claim: float
    decode: float
    segment: float
    classify: float
    crops: int

    @property
    def floor(self) -> float:
        return self.decode + self.segment + self.classify


class Raw:
    """The two models without anything around them."""

    def __init__(self, segmenter: ModelHost, classifier: ModelHost) -> None:
        self._segmenter = segmenter
        self._classifier = classifier

    @property
    def models(self) -> list[ModelRef]:
        return [self._segmenter.session.ref, self._classifier.session.ref]

    def run(self, photo: bytes, boxes: list[list[float]]) -> tuple[float, float, float]:
        """Milliseconds of decode, segmenter run and classifier run; preparing their inputs is not counted."""
        started = time.perf_counter()
        pixels = open_photo(photo).pixels
        decode = _ms(started)
        rows = segmenting.prepare(pixels, self._segmenter.pack.manifest)
        started = time.perf_counter()
        self._segmenter.session.run(rows)
        segment = _ms(started)
        if not boxes:
            return decode, segment, 0.0
        shape = self._classifier.pack.manifest.input
        crops = cut_crops(pixels, np.asarray(boxes), size=shape.height, resize=shape.resize, context=shape.context)
        most = self._classifier.session.buckets[-1]
        started = time.perf_counter()
        for first in range(0, len(crops), most):
            self._classifier.session.run(crops[first : first + most])
        return decode, segment, _ms(started)


@asynccontextmanager
async def raw_models() -> AsyncIterator[Raw]:
    """A second copy of both models, opened by the same settings as the served ones."""
    hosts = [
        ModelHost("segmenter", "segment", segmenting.CONTRACT, SegmenterSettings()),
        ModelHost("classifier", "classify", classifying.CONTRACT, ClassifierSettings()),
    ]
    async with AsyncExitStack() as stack:
        for host in hosts:
            await stack.enter_async_context(host.lifespan(FastAPI()))
        for host in hosts:
            while not (readiness := await host.readiness()).ready:
                if readiness.state == "failed":
                    raise SystemExit(readiness.detail)
                await asyncio.sleep(0.05)
        yield Raw(*hosts)


async def measure(url: str, photos: list[bytes], raw: Raw, *, warm_up: int = 2) -> list[Round]:
    """One round per photo after `warm_up` ones: the claim, then the same photo through the bare models."""
    rounds = []
    async with httpx2.AsyncClient(base_url=url, timeout=120) as http:
        for photo in photos:
            started = time.perf_counter()
            answer = await http.post(
                "/v1/claims", files={"photos": ("photo.jpg", photo, "image/jpeg")}, headers={"Prefer": "wait=60"}
            )
            claim = _ms(started)
            if answer.status_code != 200 or answer.json()["status"] != "succeeded":
                raise SystemExit(f"The claim did not succeed: {answer.text}")
            boxes = [finding["box"] for finding in answer.json()["photos"][0]["findings"]]
            decode, segment, classify = await asyncio.to_thread(raw.run, photo, boxes)
            rounds.append(Round(claim, decode, segment, classify, len(boxes)))
    return rounds[warm_up:]


def _ms(started: float) -> float:
    return (time.perf_counter() - started) * 1000
