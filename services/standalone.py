"""Everything in one process: `python -m services.standalone`, or `make run`.

The same apps as in separate processes, asked by the same clients; only the transport between them is a function call.
Each room still reads its own settings (`CLAIMSIGHT_SEGMENTER_PACK`, `CLAIMSIGHT_GATEWAY_TAU`, ...).
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import structlog
import uvicorn
from fastapi import FastAPI
from pydantic import Field

import services.classifier.app
import services.gateway.app
import services.gateway.guard
import services.generator.app
import services.retrieval.app
import services.segmenter.app
from services.common.jobs import embedded
from services.common.serving import folderlock, run
from services.common.serving.clients import HttpClassifier, HttpRetrieval, HttpSegmenter, in_process
from services.common.serving.generator_client import HttpGenerator
from services.common.serving.health import Readiness
from services.common.serving.settings import InvalidSettings, ServiceSettings
from services.gateway.assessment.clients import Clients

log = structlog.get_logger("services.standalone")  # as a program, __name__ is "__main__", and only our own are logged

_LOOK_EVERY_S = 0.1


class Settings(ServiceSettings):
    """`CLAIMSIGHT_<NAME>` or `--<name>`. Without keys it listens to this machine only."""

    port: int = Field(8080, ge=0, le=65535, description="0: any free one")
    data: Path = Field(Path("data"), description="folder of records, photos, memory and queue")


class NotServing(Exception):
    """Start-up has failed for good. The message says what to do."""


@contextmanager
def queue_server(data: Path) -> Iterator[str]:
    """The URL of the Redis or Valkey that the gateway's settings name, or else of one that runs in `data` meanwhile.

    Raises InvalidSettings, embedded.ServerError.
    """
    named = services.gateway.settings.Settings.from_environment()
    if "redis_url" in named.model_fields_set:
        log.info("queue in the server of the settings", server=named.redis_url.rpartition("@")[2])
        yield named.redis_url
    else:
        with embedded.running(data / "queue") as url:
            log.info("queue in a server of our own", folder=str(data / "queue"))
            yield url


@asynccontextmanager
async def house(settings: Settings, redis_url: str) -> AsyncIterator[list[FastAPI]]:
    """All apps, the gateway last. The rooms load from here on, in threads; the gateway's lifespan is the server's.

    Raises InvalidSettings.
    """
    rooms = [
        services.segmenter.app.build_app(services.segmenter.settings.Settings.from_environment(internal_key=None)),
        services.classifier.app.build_app(services.classifier.settings.Settings.from_environment(internal_key=None)),
        services.retrieval.app.build_app(
            services.retrieval.settings.Settings.from_environment(data=settings.data / "memory", internal_key=None)
        ),
    ]
    async with AsyncExitStack() as stack:
        for app in rooms:
            await stack.enter_async_context(app.router.lifespan_context(app))
        segmenter, classifier, retrieval = [await stack.enter_async_context(in_process(app)) for app in rooms]
        generator = await stack.enter_async_context(_generator())
        door = services.gateway.settings.Settings.from_environment(
            host=settings.host, data=settings.data, redis_url=redis_url
        )
        await services.gateway.guard.check(door)
        gateway = services.gateway.app.build_app(
            door,
            Clients(HttpSegmenter(segmenter), HttpClassifier(classifier), HttpRetrieval(retrieval), generator),
            worker=True,
        )
        yield [*rooms, gateway]


@asynccontextmanager
async def _generator() -> AsyncIterator[HttpGenerator | None]:
    """The generator, where a base model is configured; it loads beside everything else, which does not wait for it."""
    settings = services.generator.settings.Settings.from_environment(internal_key=None)
    if settings.base_model is None:
        yield None
        return
    app = services.generator.app.build_app(settings)
    async with app.router.lifespan_context(app), in_process(app) as http:
        yield HttpGenerator(http)


@asynccontextmanager
async def serving(settings: Settings, listener: socket.socket, redis_url: str) -> AsyncIterator[asyncio.Task[None]]:
    """The whole house behind `listener`, ready; the task ends when a signal comes.

    Raises NotServing, InvalidSettings.
    """
    async with house(settings, redis_url) as apps:
        server = run.serving(apps[-1], settings)
        task = asyncio.create_task(_serve(server, listener))
        try:
            await _until_ready(apps, server, task)
            yield task
        finally:
            server.should_exit = True
            await task


async def main(settings: Settings, listener: socket.socket, redis_url: str) -> None:
    """Serve until a signal comes; raises NotServing or InvalidSettings when a room cannot open."""
    async with serving(settings, listener, redis_url) as task:
        if not task.done():  # else a signal came while the models were loading
            _announce(listener)
        await task


async def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
    # uvicorn raises the signal that ended it once more. Here that must not tear down the event loop: the worker, the
    # memory and the queue server still have to be closed in their order.
    with suppress(SystemExit):
        await server.serve(sockets=[listener])


async def _until_ready(apps: list[FastAPI], server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    """Until every app is ready or a signal has ended serving; raises NotServing when one has failed."""
    while not task.done():
        found: list[Readiness] = [await app.state.readiness() for app in apps]
        failed = [readiness.detail for readiness in found if readiness.state == "failed"]
        if failed:
            raise NotServing("\n".join(failed))
        if server.started and all(readiness.ready for readiness in found):
            return
        await asyncio.sleep(_LOOK_EVERY_S)
    if not server.started:
        raise NotServing("The gateway could not be started; the log says why.")


def _announce(listener: socket.socket) -> None:
    url = address(*listener.getsockname()[:2])
    print(
        f"\nClaimsight is ready: {url}\n  curl -F photos=@car.jpg -H 'Prefer: wait=30' {url}/v1/claims\n",
        flush=True,
    )


def address(host: str, port: int) -> str:
    """The URL under which this machine reaches what listens on `host`."""
    if host in ("0.0.0.0", "::"):  # every address: nothing that a browser could open
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; raises NotServing when another process has the port."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise NotServing(
            f"Cannot listen on {host}:{port}: {error.strerror}. Stop what listens there, or choose another port: "
            "CLAIMSIGHT_PORT=8090 make run, or --port 8090."
        ) from error
    return listener


if __name__ == "__main__":
    settings = Settings.from_command_line("python -m services.standalone")
    run.prepare(settings, "standalone")
    try:
        with (
            listen(settings.host, settings.port) as listener,
            folderlock.held(settings.data),
            queue_server(settings.data) as redis_url,
            asyncio.Runner(loop_factory=uvicorn.Config("", log_config=None).get_loop_factory()) as runner,
        ):
            runner.run(main(settings, listener, redis_url))
    except (NotServing, InvalidSettings, folderlock.FolderUnusable, embedded.ServerError) as error:
        sys.exit(f"Claimsight cannot start. {error}")
