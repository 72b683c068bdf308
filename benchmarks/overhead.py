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
class Spent:
    """Milliseconds by the clock, and of this process's processor time, which other work does not lengthen as much."""

    clock: float
    processor: float

    @classmethod
    def now(cls) -> Spent:
        return cls(time.perf_counter() * 1000, time.process_time() * 1000)

    def since(self, started: Spent) -> Spent:
        return Spent(self.clock - started.clock, self.processor - started.processor)

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.clock + other.clock, self.processor + other.processor)


_NOTHING = Spent(0.0, 0.0)


@dataclass(frozen=True)
class Round:
    claim: Spent
    decode: Spent
    segment: Spent
    classify: Spent
    crops: int

    @property
    def floor(self) -> Spent:
        return self.decode + self.segment + self.classify


class Raw:
    """The two models without anything around them."""

    def __init__(self, segmenter: ModelHost, classifier: ModelHost) -> None:
        self._segmenter = segmenter
        self._classifier = classifier

    @property
    def models(self) -> list[ModelRef]:
        return [self._segmenter.session.ref, self._classifier.session.ref]

    def run(self, photo: bytes, boxes: list[list[float]]) -> tuple[Spent, Spent, Spent]:
        """Decode, segmenter run and classifier run; preparing their inputs is not counted."""
        started = Spent.now()
        pixels = open_photo(photo).pixels
        decode = Spent.now().since(started)
        rows = segmenting.prepare(pixels, self._segmenter.pack.manifest)
        started = Spent.now()
        self._segmenter.session.run(rows)
        segment = Spent.now().since(started)
        if not boxes:
            return decode, segment, _NOTHING
        shape = self._classifier.pack.manifest.input
        crops = cut_crops(pixels, np.asarray(boxes), size=shape.height, resize=shape.resize, context=shape.context)
        most = self._classifier.session.buckets[-1]
        started = Spent.now()
        for first in range(0, len(crops), most):
            self._classifier.session.run(crops[first : first + most])
        return decode, segment, Spent.now().since(started)


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
            started = Spent.now()
            answer = await http.post(
                "/v1/claims", files={"photos": ("photo.jpg", photo, "image/jpeg")}, headers={"Prefer": "wait=60"}
            )
            claim = Spent.now().since(started)
            if answer.status_code != 200 or answer.json()["status"] != "succeeded":
                raise SystemExit(f"The claim did not succeed: {answer.text}")
            boxes = [finding["box"] for finding in answer.json()["photos"][0]["findings"]]
            decode, segment, classify = await asyncio.to_thread(raw.run, photo, boxes)
            rounds.append(Round(claim, decode, segment, classify, len(boxes)))
    return rounds[warm_up:]
