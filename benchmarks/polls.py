"""What polling costs the work beside it: claims finished a second with and without 200 polls a second, in turn.

`python -m benchmarks.polls` starts the one-process house with the shipped packs; the polls come from a third process,
which on a small machine takes its own share of the processor away from both.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from typing import Any
from urllib.parse import urlsplit

import httpx2
from rich.progress import track

from benchmarks.hostile import free_port, until_ready
from benchmarks.photos import photos, scene

_TARGET = 0.05
_CONNECTIONS = 8
_CLIENTS = 2  # that always have a claim under way: as many as the worker takes at once


@dataclass(frozen=True)
class _Shared:
    going: Event
    over: Event
    answered: Any  # a multiprocessing.Value: how many polls were


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.polls", description=__doc__)
    parser.add_argument("--rounds", type=int, default=12, help="pairs of a stretch with polls and one without")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each stretch")
    parser.add_argument("--rate", type=float, default=200.0, help="polls a second")
    options = parser.parse_args()
    url = f"http://127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="claimsight-polls-") as folder:
        command = [sys.executable, "-m", "services.standalone", "--port", url.rpartition(":")[2], "--data", folder]
        process = subprocess.Popen([*command, "--log-level", "error"])
        try:
            until_ready(url)
            sent = photos(scene(), 1, width=1600, height=1200)[0]
            claim = asyncio.run(_claim(url, sent))
            pairs, polled = [], 0
            for number in track(range(options.rounds), "with and without polls"):
                rates = {}
                for polling in (True, False) if number % 2 else (False, True):
                    rate, answered = _stretch(url, claim, sent, options.seconds, options.rate if polling else 0)
                    rates[polling] = rate
                    polled += answered
                pairs.append(rates[True] / rates[False])
        finally:
            process.terminate()
            process.wait(60)
    low, median, high = statistics.quantiles(pairs, n=4)
    print(f"{options.rounds} pairs of {options.seconds:g} s, {polled / options.rounds / options.seconds:.0f} polls/s")
    print(f"claims/s with polls / without: {median:.3f} ({low:.3f} to {high:.3f}), target {1 - _TARGET:g} or more")


async def _claim(url: str, photo: bytes) -> str:
    async with httpx2.AsyncClient(base_url=url, timeout=120) as http:
        return str((await _send(http, photo)).json()["links"]["self"])


async def _send(http: httpx2.AsyncClient, photo: bytes) -> httpx2.Response:
    fresh = photo + os.urandom(8)  # the same photo is not looked at twice
    answer = await http.post("/v1/claims", files={"photos": ("a.jpg", fresh)}, headers={"Prefer": "wait=60"})
    return answer.raise_for_status()


def _stretch(url: str, claim: str, photo: bytes, seconds: float, rate: float) -> tuple[float, int]:
    """Claims finished a second, and how many polls were answered."""
    context = multiprocessing.get_context("spawn")
    shared = _Shared(context.Event(), context.Event(), context.Value("i", 0))
    poller = context.Process(target=_poll, args=(url, claim, rate, shared)) if rate else None
    if poller:
        poller.start()
        shared.going.wait(60)
    try:
        return asyncio.run(_work(url, photo, seconds)), shared.answered.value
    finally:
        shared.over.set()
        if poller:
            poller.join(30)


async def _work(url: str, photo: bytes, seconds: float) -> float:
    finished, begun = 0, time.perf_counter()
    async with httpx2.AsyncClient(base_url=url, timeout=120) as http:

        async def one() -> None:
            nonlocal finished
            while time.perf_counter() - begun < seconds:
                await _send(http, photo)
                finished += 1

        await asyncio.gather(*(one() for _ in range(_CLIENTS)))
    return finished / (time.perf_counter() - begun)


def _poll(url: str, claim: str, rate: float, shared: _Shared) -> None:
    asyncio.run(_polls(url, claim, rate, shared))


async def _polls(url: str, claim: str, rate: float, shared: _Shared) -> None:
    """GETs of the whole claim, on kept connections, each due at its own time whatever became of those before."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    ask = f"GET {claim} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        due = time.perf_counter() + number / rate
        while not shared.over.is_set():
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            writer.write(ask)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split()[0]))
            shared.answered.value += head.startswith(b"HTTP/1.1 200")
            due += _CONNECTIONS / rate
        writer.close()

    shared.going.set()
    await asyncio.gather(*(one(number) for number in range(_CONNECTIONS)))


if __name__ == "__main__":
    main()
