"""Make a model service ready once, without serving: its pack is verified and its engines are built before others wait.

`python -m services.segmenter prepare` goes exactly the way of a start and ends with status 1 where that would fail.
"""

from __future__ import annotations

import asyncio
import sys

from fastapi import FastAPI

from services.common.serving.health import Readiness, ReadinessCheck
from services.common.serving.settings import ServiceSettings
from services.common.serving.telemetry import configure_logging

_LOOK_S = 0.1


def prepare(app: FastAPI, settings: ServiceSettings) -> None:
    """Ends the process with what to do where the service could not become ready."""
    configure_logging(settings.log_level, settings.log_format)
    readiness = asyncio.run(_reached(app))
    if not readiness.ready:
        sys.exit(f"{app.state.service} would not become ready. {readiness.detail}")
    print(f"{app.state.service}: the pack is whole and the model answers as it should")


async def _reached(app: FastAPI) -> Readiness:
    """What the service comes to: ready or failed. Each step on the way is printed once."""
    said = ""
    async with app.router.lifespan_context(app):
        check: ReadinessCheck = app.state.readiness
        while True:
            readiness = await check()
            if readiness.ready or readiness.state == "failed":
                return readiness
            if readiness.detail != said:
                said = readiness.detail
                print(said, flush=True)
            await asyncio.sleep(_LOOK_S)
