"""Thousands of hostile uploads against a real server: which statuses they get, and what becomes of its memory.

`python -m benchmarks.hostile --uploads 10000` starts the whole house as a process of its own, with the shipped packs.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
from rich.progress import Progress

from benchmarks.hostile_corpus import Hostile, uploads

_AT_ONCE = 32
_PATIENCE_S = 60.0
_TARGET_GROWTH = 0.10


@dataclass
class Report:
    """How each kind was answered: a status, 0 where the connection was closed without one."""

    statuses: Counter[int] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)  # kinds that got a 500, a 502 or no answer in time

    @property
    def ok(self) -> bool:
        return not self.broken


async def send_all(url: str, hostile: Iterable[Hostile], sent: Callable[[], object] = lambda: None) -> Report:
    """Send everything, some at a time, and what only dawdles beside it; `sent` is called after each."""
    report, left = Report(), iter(hostile)
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 80

    async def one(each: Hostile) -> None:
        try:
            status = await asyncio.wait_for(_send(host, port, each), _PATIENCE_S)
        except TimeoutError:
            status = -1
        report.statuses[status] += 1
        if status in (-1, 500, 502):
            report.broken.append(f"{each.kind}: {status}")
        sent()

    async with asyncio.TaskGroup() as dawdling:

        async def one_after_the_other() -> None:
            for each in left:
                if each.pause_s:
                    dawdling.create_task(one(each))
                else:
                    await one(each)

        await asyncio.gather(*(one_after_the_other() for _ in range(_AT_ONCE)))
    return report


async def _send(host: str, port: int, hostile: Hostile) -> int:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        with suppress(ConnectionError):
            for piece in hostile.pieces:
                writer.write(piece)
                await writer.drain()
                if hostile.pause_s:
                    await asyncio.sleep(hostile.pause_s)
        if hostile.cut:
            with suppress(OSError):
                writer.write_eof()
        try:
            words = (await reader.readline()).split()
        except ConnectionError:
            return 0
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    finally:
        writer.close()


def rss_mb(pid: int | str = "self") -> float:
    """Resident memory of a process, without its children."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def new_batch(url: str) -> str:
    return str(httpx2.post(f"{url}/v1/batches", json={}, timeout=30).headers["Location"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=__doc__)
    parser.add_argument("--uploads", type=int, default=10_000)
    parser.add_argument("--warm-up", type=int, default=1_000, help="of them, before memory is looked at")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="claimsight-hostile-") as folder:
        command = [sys.executable, "-m", "services.standalone", "--port", str(port), "--data", folder]
        process = subprocess.Popen([*command, "--log-level", "error"])
        try:
            until_ready(url)
            started = time.perf_counter()
            with Progress() as progress:
                sent = partial(progress.advance, progress.add_task("hostile uploads", total=options.uploads))
                warm = asyncio.run(send_all(url, uploads(options.seed, options.warm_up, new_batch(url)), sent))
                before = rss_mb(process.pid)
                rest = uploads(options.seed + 1, options.uploads - options.warm_up, new_batch(url))
                report = asyncio.run(send_all(url, rest, sent))
            after = rss_mb(process.pid)
            alive = httpx2.get(f"{url}/health/ready", timeout=60).status_code
        finally:
            process.terminate()
            process.wait(60)
    statuses = warm.statuses + report.statuses
    print(f"{options.uploads} uploads in {time.perf_counter() - started:.0f} s, seed {options.seed}")
    print("statuses (0: closed without one): " + ", ".join(f"{s}: {n}" for s, n in sorted(statuses.items())))
    print(f"500, 502 or no answer in {_PATIENCE_S:g} s: {len(warm.broken) + len(report.broken)} (target 0)")
    growth = after / before - 1
    print(f"RSS {before:.0f} MB after {options.warm_up}, {after:.0f} MB at the end:", end=" ")
    print(f"{growth:+.1%} (target +-{_TARGET_GROWTH:.0%})")
    print(f"/health/ready afterwards: {alive}")
    for kind, count in Counter([*warm.broken, *report.broken]).most_common():
        print(f"  {kind} x {count}")


def until_ready(url: str) -> None:
    ends = time.monotonic() + 300
    while time.monotonic() < ends:
        with suppress(httpx2.TransportError):
            if httpx2.get(f"{url}/health/ready", timeout=5).status_code == 200:
                return
        time.sleep(0.2)
    raise SystemExit("Claimsight did not become ready.")


if __name__ == "__main__":
    main()
