"""A gateway with fake models on a real port, in a thread of its own: for browsers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from services.gateway.app import build_app
from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.running import settings
from tests.unit.gateway.servers import free_port


@contextmanager
def served(folder: Path, redis_url: str, fakes: Fakes, **changes: object) -> Iterator[str]:
    """The gateway's URL."""
    port = free_port()
    app = build_app(settings(folder, redis_url, **changes), fakes.clients, worker=True)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the gateway did not start")
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(15)
