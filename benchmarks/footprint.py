"""What running Claimsight costs besides time: start to ready, memory, idle CPU, size of the installation."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import httpx2
from packaging.requirements import Requirement

_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Footprint:
    start_s: float  # from exec to the first 200 of /health/ready
    rss_mb: float  # after the first claim, the queue server included
    idle_cpu: float  # share of one core


def measure(photo: bytes, data: Path, *, idle_s: float) -> Footprint:
    """Start the standalone process on a fresh data folder, send one photo, then leave it alone for `idle_s`."""
    started = time.perf_counter()
    with standalone(data) as (url, process):
        start_s = time.perf_counter() - started
        answer = httpx2.post(
            f"{url}/v1/claims", files={"photos": photo}, headers={"Prefer": "wait=60"}, timeout=_PATIENCE_S
        )
        answer.raise_for_status()
        time.sleep(min(2.0, idle_s))  # what the claim left to do is done
        pids = [process.pid, *children(process.pid)]
        before = sum(map(cpu_s, pids))
        time.sleep(idle_s)
        idle = (sum(map(cpu_s, pids)) - before) / idle_s
        return Footprint(start_s, sum(map(_rss_mb, pids)), idle)


def install_mb() -> float:
    """Size of all files of Claimsight's base requirements (no extras) and their own, as pip recorded them."""
    return sum(map(_size, _closure("claimsight"))) / 1e6


@contextmanager
def standalone(data: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The whole house in one process on this data folder: its URL once it is ready, and the process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "services.standalone", "--port", str(port), "--data", str(data)]
    process = subprocess.Popen([*command, "--log-level", "warning"], stdout=subprocess.DEVNULL)
    try:
        _until_ready(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_PATIENCE_S)


def _until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx2.get(f"{url}/health/ready", timeout=5).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.02)
    raise SystemExit("Claimsight did not become ready.")


def children(pid: int) -> list[int]:
    lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]  # of each thread
    return [int(child) for text in lists for child in text.split()]


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS  # utime and stime (man 5 proc)


def _rss_mb(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1000 if found else 0.0


def _closure(name: str) -> list[Distribution]:
    """The installed distributions that `name` needs on this machine, itself included."""
    found: dict[str, Distribution] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(name, frozenset())]
    seen = set(waiting)
    while waiting:
        wanted, extras = waiting.pop()
        try:
            found[wanted] = distribution(wanted)
        except PackageNotFoundError:
            continue
        for text in found[wanted].requires or []:
            requirement = Requirement(text)
            applies = requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in (extras or {""})
            )
            entry = (requirement.name.lower().replace("_", "-"), frozenset(requirement.extras))
            if applies and entry not in seen:
                seen.add(entry)
                waiting.append(entry)
    return list(found.values())


def _size(package: Distribution) -> int:
    paths = [Path(str(package.locate_file(file))) for file in package.files or []]
    return sum(path.stat().st_size for path in paths if path.is_file())
