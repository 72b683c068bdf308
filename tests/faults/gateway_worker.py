"""A claim worker as a process of its own, with fake models: `python -m tests.faults.gateway_worker FOLDER REDIS DELAY`.

Prints "working" when it first asks a model, so that a test knows when to kill it.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.common.serving.schemas import Segmentation
from services.gateway.runtime import opened
from services.gateway.worker import ClaimWorker
from tests.unit.gateway.fakes import Fakes, FakeSegmenter
from tests.unit.gateway.running import settings


class _Telling(FakeSegmenter):
    async def segment(self, pixels: NDArray[np.uint8]) -> Segmentation:
        print("working", flush=True)
        return await super().segment(pixels)


async def main(folder: str, redis_url: str, delay_s: str) -> None:
    fakes = Fakes(segmenter=_Telling(delay_s=float(delay_s)))
    async with opened(settings(Path(folder), redis_url, lock_seconds=1, worker_deaths=2), fakes.clients) as runtime:
        worker = ClaimWorker(runtime)
        worker.start()
        print("started", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
