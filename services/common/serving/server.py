"""A server that leaves in order: not ready, a moment for load balancers to notice, no new requests, those in flight."""

from __future__ import annotations

import gc
import signal
import socket
import time
from types import FrameType

import uvicorn
from fastapi import FastAPI

from services.common.serving.health import Readiness


class Server(uvicorn.Server):
    """uvicorn, but after SIGTERM it first says for `grace_seconds` that it is not ready, and goes on answering.

    Requests that a load balancer sends before it has noticed are answered all the same. A second signal, or Ctrl-C,
    skips the wait. `app.state.leaving` is called when it is over: whoever waits for news is to answer now.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, grace_seconds: float) -> None:
        super().__init__(config)
        self._app = app
        self._grace_seconds = grace_seconds
        self._leaves_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.state.readiness = self._stopping
        if sig == signal.SIGTERM and self._leaves_at is None and not self.should_exit:
            self._leaves_at = time.monotonic() + self._grace_seconds
            self._captured_signals.append(sig)  # which uvicorn raises again at the end, as for every signal
        else:
            super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What is there now stays. To look through its 340,000 objects again and again would stop everybody for 0.2 s.
        gc.collect()
        gc.freeze()

    async def on_tick(self, counter: int) -> bool:
        if self._leaves_at is not None and time.monotonic() >= self._leaves_at:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.readiness = self._stopping
        self._app.state.leaving()
        await super().shutdown(sockets)

    async def _stopping(self) -> Readiness:
        return Readiness("stopping", f"The {self._app.state.service} is stopping. Another one takes over.")
