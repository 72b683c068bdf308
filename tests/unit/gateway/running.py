"""A gateway in this process: the real app, records, photo store, queue and worker; only the models are fakes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
from fastapi import FastAPI

from services.gateway.app import build_app
from services.gateway.settings import Settings
from tests.unit.gateway.fakes import Fakes


def settings(folder: Path, redis_url: str, **changes: object) -> Settings:
    quick = {"requeue_seconds": 0.3, "lock_seconds": 2, "drain_seconds": 2, "reuse": False}
    return Settings.model_validate({"data": folder, "redis_url": redis_url, **quick, **changes})


@asynccontextmanager
async def gateway(
    folder: Path, redis_url: str, fakes: Fakes, *, worker: bool = True, **changes: object
) -> AsyncIterator[httpx2.AsyncClient]:
    app = build_app(settings(folder, redis_url, **changes), fakes.clients, worker=worker)
    async with app.router.lifespan_context(app), client(app) as http:
        yield http


def client(app: FastAPI) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app, raise_app_exceptions=True)
    return httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=30)
