"""Run the gateway: `api` and `worker` alone, or both in one process (the default)."""

from __future__ import annotations

import asyncio
import signal
import sys

import structlog

from services.common.serving.run import prepare, serve
from services.common.serving.settings import InvalidSettings
from services.gateway import guard
from services.gateway.app import build_app
from services.gateway.runtime import opened
from services.gateway.settings import Settings
from services.gateway.worker import ClaimWorker

log = structlog.get_logger("services.gateway")  # as a program, __name__ is "__main__", and only our own are logged


def main() -> None:
    """`python -m services.gateway [api | worker] [--setting value ...]`"""
    role = sys.argv.pop(1) if sys.argv[1:2] in (["api"], ["worker"]) else "both"
    settings = Settings.from_command_line(f"python -m services.gateway {role if role != 'both' else ''}".strip())
    if role == "worker":
        prepare(settings, "gateway-worker")
        asyncio.run(work(settings))
    else:
        try:
            asyncio.run(guard.check(settings))
        except InvalidSettings as error:
            sys.exit(f"The gateway does not start. {error}")
        serve(build_app(settings, worker=role == "both"), settings)


async def work(settings: Settings) -> None:
    """Assess claims until SIGTERM or SIGINT; then finish those in hand, as far as the drain time allows."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with opened(settings) as runtime:
        worker = ClaimWorker(runtime)
        worker.start()
        log.info("worker started", queue=settings.redis_url.rpartition("@")[2])
        await stop.wait()
        await worker.stop()


if __name__ == "__main__":
    main()
