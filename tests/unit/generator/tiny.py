"""A generator with a tiny real SDXL pipeline and a signing key of its own."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.common.serving.clients import in_process
from services.generator.app import build_app
from services.generator.settings import Settings

QUICK: dict[str, Any] = {"prompts": ["a dent on a hood"], "steps": 3, "width": 64, "height": 64, "seed": 7}


def make(folder: Path) -> Settings:
    """A base model and a key in `folder`."""
    from export.hers.tiny import make_tiny  # noqa: PLC0415 - needs torch, which the tests that stay off do not
    from services.generator.keys import make_keys  # noqa: PLC0415

    make_keys(folder / "signing", "Tests")
    return Settings(base_model=make_tiny(folder / "sdxl"), signing=folder / "signing", device="cpu")


_loaded: dict[str, Any] = {}


@asynccontextmanager
async def generator(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """The app with its model loaded (or failed); a model that another test has loaded is not loaded again."""
    from services.generator import engine  # noqa: PLC0415

    real = engine.Engine

    def remembered(settings: Settings) -> Any:
        key = settings.model_dump_json()
        if key not in _loaded:
            _loaded[key] = real(settings)
        return _loaded[key]

    app = build_app(settings)
    with patch.object(engine, "Engine", remembered):
        async with app.router.lifespan_context(app), in_process(app) as http:
            while (await http.get("/health/ready")).json().get("state") == "loading":  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            yield http


async def finished(http: httpx2.AsyncClient, generation_id: str) -> dict[str, Any]:
    """The generation's progress once it has ended."""
    seen = -1
    while True:
        state: dict[str, Any] = (
            await http.get(f"/v1/generations/{generation_id}", params={"seen": seen, "wait": 5})
        ).json()
        if state["status"] != "running":
            return state
        seen = state["done"]


def encoded(pixels: NDArray[np.generic]) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def car(height: int = 96, width: int = 128) -> NDArray[np.uint8]:
    """A photo stand-in with structure everywhere."""
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
