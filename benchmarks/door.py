"""What the gateway's door adds: submitting a 3-MB photo, and a poll, against bare Starlette doing the least.

`python -m benchmarks.door`: both servers are threads of this process and are asked in turn; the medians' ratios count.
Processor time is that of the whole process, client and both servers included: on a busy machine it is the steadier one.
The bare upload parses the same multipart body with Starlette's own parser, hashes the photo and writes it to a file;
the bare poll answers the same JSON document. No worker runs: accepting is measured, not assessing.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from benchmarks.photos import photos, scene
from services.common.jobs import embedded
from services.common.serving.run import configuration
from services.common.serving.telemetry import configure_logging
from services.gateway.app import build_app
from services.gateway.settings import Settings

_TARGET_SUBMIT, _TARGET_POLL = 1.5, 2.0
_BYTES = 3_000_000


def bare(folder: Path, document: dict[str, object]) -> Starlette:
    """The least that an upload and a poll can be."""

    async def upload(request: Request) -> Response:
        async with request.form() as form:
            data = await form["photos"].read()  # type: ignore[union-attr]
        digest = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
        await asyncio.to_thread((folder / uuid4().hex).write_bytes, data)
        return JSONResponse({"sha256": digest}, 202)

    async def poll(request: Request) -> Response:
        return JSONResponse(document)

    return Starlette(routes=[Route("/v1/claims", upload, methods=["POST"]), Route("/poll", poll)])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.door", description=__doc__)
    parser.add_argument("--rounds", type=int, default=60, help="submissions; polls are ten times as many")
    rounds = parser.parse_args().rounds
    configure_logging("error", "console")
    with (
        tempfile.TemporaryDirectory(prefix="claimsight-door-") as name,
        embedded.running(Path(name) / "queue") as redis,
    ):
        folder = Path(name)
        settings = Settings.model_validate({"data": folder, "redis_url": redis, "max_queue": 100_000})
        photo = _padded(photos(scene(), 1)[0])
        with _served(build_app(settings), settings) as ours, httpx2.Client(timeout=60) as http:
            claim = _submit(http, ours, photo).json()
            (folder / "bare").mkdir()
            with _served(bare(folder / "bare", claim), settings) as theirs:
                submit = _measure(lambda: _submit(http, ours, photo), lambda: _submit(http, theirs, photo), rounds)
                poll = _measure(
                    lambda: http.get(f"{ours}/v1/claims/{claim['id']}").raise_for_status(),
                    lambda: http.get(f"{theirs}/poll").raise_for_status(),
                    rounds * 10,
                )
    print(f"{rounds} submissions of {len(photo):,} bytes, {rounds * 10} polls, each in turn with the bare one")
    for what, measured, target in (("submission", submit, _TARGET_SUBMIT), ("poll", poll, _TARGET_POLL)):
        for kind, (mine, least) in measured.items():
            ratio = f"ratio {mine / least:.2f} (target {target})"
            print(f"{what}, {kind}: {mine:.2f} ms, bare Starlette {least:.2f} ms, {ratio}")


def _measure(mine: Callable[[], object], least: Callable[[], object], rounds: int) -> dict[str, tuple[float, float]]:
    """Medians of both in milliseconds, by the clock and of the processor, after a tenth to warm up."""
    clocks = {"by the clock": time.perf_counter, "processor": time.process_time}
    spent: dict[str, tuple[list[float], list[float]]] = {kind: ([], []) for kind in clocks}
    for _ in range(rounds + rounds // 10):
        for which, ask in enumerate((mine, least)):
            started = {kind: clock() for kind, clock in clocks.items()}
            ask()
            for kind, clock in clocks.items():
                spent[kind][which].append((clock() - started[kind]) * 1000)
    kept = {kind: [times[rounds // 10 :] for times in both] for kind, both in spent.items()}
    return {kind: (statistics.median(both[0]), statistics.median(both[1])) for kind, both in kept.items()}


def _submit(http: httpx2.Client, url: str, photo: bytes) -> httpx2.Response:
    return http.post(f"{url}/v1/claims", files={"photos": ("a.jpg", photo, "image/jpeg")}).raise_for_status()


def _padded(photo: bytes) -> bytes:
    """The photo at 3 MB: decoders stop at its end, uploads and hashes do not."""
    return photo + bytes(max(0, _BYTES - len(photo)))


@contextmanager
def _served(app: ASGIApp, settings: Settings) -> Iterator[str]:
    config = configuration(app, settings)
    config.port = 0
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(30)


if __name__ == "__main__":
    main()
