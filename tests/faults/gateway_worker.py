"""A claim worker as a process of its own, with fake models.

`python -m tests.faults.gateway_worker FOLDER REDIS DELAY QUICK`: a photo takes DELAY seconds, but for the first QUICK.
Prints "working" when it asks a model, so that a test knows when to kill it.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.common.serving.schemas import Segmentation
from services.gateway.runtime import opened
from services.gateway.worker import ClaimWorker
from tests.unit.gateway.fakes import Fakes, FakeSegmenter
from tests.unit.gateway.running import settings


@dataclass
class _Telling(FakeSegmenter):
    quick: int = 0
    then_s: float = 0

    async def segment(self, pixels: NDArray[np.uint8]) -> Segmentation:
        print("working", flush=True)
        self.delay_s = 0 if self.calls < self.quick else self.then_s
        return await super().segment(pixels)


async def main(folder: str, redis_url: str, delay_s: str, quick: str) -> None:
    fakes = Fakes(segmenter=_Telling(quick=int(quick), then_s=float(delay_s)))
    async with opened(settings(Path(folder), redis_url, worker_deaths=2), fakes.clients) as runtime:
        worker = ClaimWorker(runtime)
        worker.start()
        print("started", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
