"""The generator's routes. Claimsight ships no base model for it: until one is configured it says so, and how."""

from __future__ import annotations

from fastapi import FastAPI

import services
from services.common.serving.app import create_app
from services.common.serving.errors import NotReady
from services.common.serving.health import Readiness
from services.generator.settings import Settings


def build_app(settings: Settings) -> FastAPI:
    """The app; it lives, and is not ready."""
    if settings.base_model is None:
        missing = "No base model is configured. Set CLAIMSIGHT_GENERATOR_BASE_MODEL to the folder of one."
    else:
        missing = f"The base model {settings.base_model.name} cannot be used: this release serves no generation yet."

    async def readiness() -> Readiness:
        return Readiness("not_ready", missing)

    app = create_app(
        service="generator",
        version=services.VERSION,
        readiness=readiness,
        internal_key=settings.internal_key,
    )

    @app.post("/v1/generations")
    async def generate() -> None:
        """Make marked synthetic damage images."""
        raise NotReady(missing)

    return app
