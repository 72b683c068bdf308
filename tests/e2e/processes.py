"""Services as processes of their own on loopback, as an operator would start them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

ROOT = Path(__file__).parents[2]
_START_S, _STOP_S = 240.0, 60.0  # generous: a loaded machine is no broken one


class Service:
    """One started process; its output lies in `log`."""

    def __init__(self, module: str, *arguments: str, log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.name = module
        self.log = log
        self._output = log.open("ab")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CLAIMSIGHT_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            # The same photo sent twice is looked at twice: what is counted and measured here is work.
            env={**kept, "OMP_NUM_THREADS": "1", "CLAIMSIGHT_GATEWAY_REUSE": "false", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
        )

    def wait_until_ready(self, base_url: str) -> None:
        deadline = time.monotonic() + _START_S
        last = "no answer"
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"{self.name} ended:\n{self.tail()}"
            try:
                answer = httpx2.get(f"{base_url}/health/ready", timeout=5)
                if answer.status_code == 200:
                    return
                last = answer.text
            except httpx2.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"{self.name} is not ready: {last}\n{self.tail()}")

    def wait_until_it_remembers(self, base_url: str) -> dict[str, Any]:
        """What `/v1/models` answers once the memory is open: a gateway is ready before, because it can do without."""
        deadline = time.monotonic() + _START_S
        while "rows" not in (models := httpx2.get(f"{base_url}/v1/models", timeout=30).json())["memory"]:
            assert time.monotonic() < deadline, f"{self.name} has no memory: {models['memory']}\n{self.tail()}"
            time.sleep(0.05)
        return dict(models)

    def wait_until_it_says(self, text: str) -> None:
        deadline = time.monotonic() + _START_S
        while text not in self.log.read_text(errors="replace"):
            assert self.process.poll() is None and time.monotonic() < deadline, f"{text!r} is missing:\n{self.tail()}"
            time.sleep(0.05)

    def stop(self, name: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and answer the exit status (negative: the signal that ended it)."""
        if self.process.poll() is None:
            self.process.send_signal(name)
        try:
            return self.process.wait(_STOP_S)
        finally:
            self.process.kill()
            self._output.close()

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])


@contextmanager
def running(module: str, *arguments: str, log: Path, environment: Mapping[str, str] | None = None) -> Iterator[Service]:
    service = Service(module, *arguments, log=log, environment=environment)
    try:
        yield service
    finally:
        service.stop()


def post_claim(base_url: str, *photos: bytes, wait_s: int = 60) -> httpx2.Response:
    """What `curl -F photos=@... -H 'Prefer: wait=...'` sends."""
    return httpx2.post(
        f"{base_url}/v1/claims",
        files=[("photos", (f"{position}.jpg", photo, "image/jpeg")) for position, photo in enumerate(photos)],
        headers={"Prefer": f"wait={wait_s}"},
        timeout=wait_s + 30,
    )
