"""Run one app in this process with uvicorn."""

from __future__ import annotations

import signal
import sys

import prometheus_client
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from services.common.serving import blas, heap, tracing
from services.common.serving.server import Server
from services.common.serving.settings import ServiceSettings
from services.common.serving.slowloris import Protocol
from services.common.serving.telemetry import configure_logging

DRAIN_S = 30  # longest wait for requests in flight after SIGTERM; compose allows 45 s before it kills


def serve(app: FastAPI, settings: ServiceSettings) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight. One worker: one process owns the device."""
    prepare(settings, app.state.service)
    server = serving(app, settings)
    server.run()
    if not server.started:
        sys.exit(f"Nothing was served on {settings.host}:{settings.port}; the log says why.")


def serving(app: FastAPI, settings: ServiceSettings) -> Server:
    """How every app here is served, and how it leaves."""
    return Server(configuration(app, settings), app, settings.grace_seconds)


def prepare(settings: ServiceSettings, service: str) -> None:
    """What a process needs before it serves: few heaps, one BLAS thread, logs, traces, metrics on their own port, and
    signals that end it well."""
    heap.bound()
    blas.bound()
    configure_logging(settings.log_level, settings.log_format)
    tracing.configure(service)
    if settings.metrics_port:
        prometheus_client.start_http_server(settings.metrics_port, addr=settings.host)
    for name in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again once it has drained. The default action would then end the process before
        # its own cleanup and with a status that looks like a crash; SystemExit unwinds everything and gives 0.
        signal.signal(name, lambda *_: sys.exit(0))


def configuration(app: ASGIApp, settings: ServiceSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        workers=1,
        log_config=None,  # ours is already in place
        access_log=False,  # the middleware writes one line per request, without paths or queries
        server_header=False,
        date_header=True,
        http=Protocol,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=DRAIN_S,
    )
