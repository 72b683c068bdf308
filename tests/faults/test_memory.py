"""The retrieval service is killed while it learns: nothing that it acknowledged is lost."""

from __future__ import annotations

from pathlib import Path

from benchmarks import memory_faults
from tests.unit.retrieval import cases


async def test_no_acknowledged_case_is_lost_when_the_retrieval_service_is_killed(tmp_path: Path) -> None:
    pack = cases.small(tmp_path / "pack").folder
    outcome = await memory_faults.run(pack, tmp_path / "data", cases=40, kills=1)
    assert (len(outcome.kept), outcome.kills, outcome.lost) == (40, 1, [])
    assert outcome.identical
