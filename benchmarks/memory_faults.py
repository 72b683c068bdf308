"""No case is lost: `python -m benchmarks.memory_faults --cases 10000 --kills 20`.

Sends cases to a retrieval service that is killed (SIGKILL) at random moments and started again. A case counts as kept
once the service has said so. At the end each of these must be found, with its last label; then a snapshot is taken,
the memory changed and restored, and all answers compared.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from services.common.serving.clients import HttpRetrieval, over_network
from services.common.serving.errors import NotFound, Problem
from services.common.serving.modelpack import load_pack
from services.common.serving.schemas import Case

TENANT = "acme"
PATIENCE_S = 120.0


@dataclass
class Outcome:
    """`kept`: what was acknowledged, with its last label; None where it was taken back."""

    kept: dict[str, str | None] = field(default_factory=dict)
    kills: int = 0
    lost: list[str] = field(default_factory=list)
    identical: bool = False


class Service:
    """One retrieval process on a folder, which can be killed and started again."""

    def __init__(self, pack: Path, data: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._command = [sys.executable, "-m", "services.retrieval", "--log-level", "error"]
        self._command += ["--pack", str(pack), "--data", str(data), "--port", str(self.port)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # Settings of whoever runs this must not reach the process: it has a folder and a port of its own.
        own = {name: value for name, value in os.environ.items() if not name.startswith("CLAIMSIGHT_")}
        self._process = subprocess.Popen(self._command, env=own)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    async def ready(self, http: httpx2.AsyncClient) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                if (await http.get("/health/ready")).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.05)
        raise TimeoutError("the retrieval service did not become ready")


@asynccontextmanager
async def serving(pack: Path, data: Path) -> AsyncIterator[tuple[Service, HttpRetrieval, httpx2.AsyncClient]]:
    service = Service(pack, data)
    service.start()
    try:
        async with over_network(f"http://127.0.0.1:{service.port}") as http:
            await service.ready(http)
            yield service, HttpRetrieval(http), http
    finally:
        service.kill()


def embeddings(n: int, dimension: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(0).normal(size=(n, dimension))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


async def run(pack: Path, data: Path, *, cases: int, kills: int, seed: int = 0) -> Outcome:
    """Send `cases`, every tenth corrected and every twentieth taken back at once; kill `kills` times in between."""
    manifest = load_pack(pack).manifest
    classes, rng, outcome = manifest.vocabulary.classes, random.Random(seed), Outcome()
    rows = embeddings(cases, manifest.embedding_dim)
    doomed = set(rng.sample(range(1, cases), kills))
    async with serving(pack, data) as (service, retrieval, http):

        async def insist(number: int) -> None:
            """Until the service has said yes to all three steps; each may be repeated."""
            case = Case(id=f"c{number}", label=classes[number % len(classes)], claim_id=f"clm_{number}", reviewer="a")
            other = classes[(number + 1) % len(classes)]

            async def add() -> None:
                await retrieval.add(case, rows[number], tenant=TENANT, backbone=manifest.backbone)

            steps: list[Callable[[], Awaitable[None]]] = [add]
            if number % 10 == 0:
                steps.append(partial(retrieval.correct, case.id, other, tenant=TENANT))
            if number % 20 == 0:
                steps.append(partial(retrieval.retract, case.id, tenant=TENANT))
            for step in steps:
                while True:
                    try:
                        await step()
                        break
                    except Problem as problem:
                        if problem.status < 500:
                            raise
                        await asyncio.sleep(0.02)
            outcome.kept[case.id] = None if number % 20 == 0 else other if number % 10 == 0 else case.label

        for number in tqdm(range(cases), desc="cases", unit="case", mininterval=2):
            work = asyncio.ensure_future(insist(number))
            if number in doomed:
                await asyncio.sleep(rng.random() * 0.01)  # in the middle of a request
                service.kill()
                service.start()
                outcome.kills += 1
            await work
        service.kill()
        service.start()
        await service.ready(http)
        outcome.lost = await _missing(retrieval, outcome.kept, rows)
        outcome.identical = await _restores(retrieval, rows, manifest.backbone, classes)
    return outcome


async def _missing(retrieval: HttpRetrieval, kept: dict[str, str | None], rows: NDArray[np.float32]) -> list[str]:
    """Ids that are not found at their own embedding as they should be."""
    missing = []
    for start in range(0, len(rows), 200):
        found = await retrieval.search(rows[start : start + 200], k=1, tenant=TENANT)
        for number, nearest in enumerate(found, start=start):
            case_id, here = f"c{number}", nearest[0]
            told = here.label if (here.id == case_id and here.distance < 1e-4) else None
            if told != kept[case_id]:
                missing.append(case_id)
    return missing


async def _restores(
    retrieval: HttpRetrieval, rows: NDArray[np.float32], backbone: str, classes: tuple[str, ...]
) -> bool:
    """Whether a snapshot gives the same answers back after cases were added, corrected and taken back."""

    async def answers() -> list[object]:
        return [await retrieval.search(rows[i : i + 50], k=15, tenant=TENANT) for i in range(0, len(rows), 50)]

    before, snapshot = await answers(), await retrieval.snapshot()
    for number in range(20):
        case = Case(id=f"late{number}", label=classes[0], claim_id=f"late{number}")
        await retrieval.add(case, np.roll(rows[number], 1), tenant=TENANT, backbone=backbone)
    for number in range(1, min(len(rows), 200), 3):
        try:
            await retrieval.retract(f"c{number}", tenant=TENANT)
        except NotFound:
            return False
    changed = await answers() != before
    await retrieval.restore(snapshot.name)
    return changed and await answers() == before


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill the memory while it learns, and look for what is missing.")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--pack", type=Path, default=Path("models/memory"))
    args = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcome = asyncio.run(run(args.pack, Path(folder), cases=args.cases, kills=args.kills))
    print(
        f"{len(outcome.kept)} cases acknowledged, {outcome.kills} kills, {len(outcome.lost)} lost, answers after "
        f"restore {'identical' if outcome.identical else 'DIFFERENT'}, {time.monotonic() - started:.0f} s"
    )
    sys.exit(bool(outcome.lost) or not outcome.identical)


if __name__ == "__main__":
    main()
