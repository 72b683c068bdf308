"""Snapshots: identical answers after a restore, and nothing changed by a bad one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.serving.errors import MemoryRefused, NotFound
from services.retrieval.memory import Memory
from tests.unit.retrieval import cases


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    opened = cases.opened(cases.small(tmp_path / "pack"), tmp_path / "data")
    for number in range(6):
        opened.add(cases.case(f"rev_{number}", claim_id=f"clm_{number}"), cases.crop(number), tenant="acme")
    opened.add(cases.case("rev_twin", claim_id="clm_t"), cases.crop(1), tenant="acme")
    opened.retract("rev_3", tenant="acme")
    yield opened
    opened.close()


def _answers(memory: Memory) -> object:
    return [memory.search(cases.crop(seed)[None], k=9, tenant="acme") for seed in range(8)]


def test_a_restored_snapshot_gives_identical_answers_also_after_a_start(memory: Memory, tmp_path: Path) -> None:
    before, told = _answers(memory), memory.stats("acme")
    snapshot = memory.snapshot()
    assert snapshot.cases == 7
    memory.add(cases.case("rev_new", "scratch", claim_id="clm_n"), cases.crop(0), tenant="acme")
    memory.retract("rev_1", tenant="acme")
    memory.correct("rev_2", "scratch", tenant="acme")
    assert _answers(memory) != before
    assert memory.restore(snapshot.name) == snapshot
    assert _answers(memory) == before
    assert memory.stats("acme") == told.model_copy(update={"snapshots": [snapshot]})
    memory.retract("rev_1", tenant="acme")  # its twin still stands in for it
    assert "rev_twin" in {
        neighbour.id for row in memory.search(cases.crop(1)[None], k=1, tenant="acme") for neighbour in row
    }
    memory.restore(snapshot.name)
    again = cases.opened(cases.small(tmp_path / "pack"), tmp_path / "elsewhere")
    again.close()
    memory.close()
    memory._rows = again._rows  # the fixture closes once more
    reopened = cases.opened(cases.small(tmp_path / "pack"), tmp_path / "data")
    assert _answers(reopened) == before
    assert "restored" not in {entry.action for entry in reopened.log("acme")}  # it is nobody's own
    reopened.close()


def test_an_empty_memory_can_be_kept_and_restored(tmp_path: Path) -> None:
    memory = cases.opened(cases.small(tmp_path / "pack"), tmp_path / "data")
    snapshot = memory.snapshot()
    memory.add(cases.case(), cases.crop(0), tenant="acme")
    memory.restore(snapshot.name)
    assert (snapshot.cases, len(memory)) == (0, cases.FEW)
    memory.close()


def test_a_damaged_or_half_written_snapshot_changes_nothing(memory: Memory, tmp_path: Path) -> None:
    snapshot, before = memory.snapshot(), _answers(memory)
    file = tmp_path / "data" / "snapshots" / f"{snapshot.name}.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(MemoryRefused, match="damaged"):
        memory.restore(snapshot.name)
    (tmp_path / "data" / "snapshots" / f"{snapshot.name}.json").unlink()
    for name in (snapshot.name, "../rows", "snp_none"):
        with pytest.raises(NotFound):
            memory.restore(name)
    assert _answers(memory) == before


def test_a_snapshot_of_another_backbone_is_refused(memory: Memory, tmp_path: Path) -> None:
    snapshot = memory.snapshot()
    other = cases.opened(cases.small(tmp_path / "pack", version="2", backbone="b" * 64), tmp_path / "other")
    (tmp_path / "data" / "snapshots").rename(tmp_path / "other" / "snapshots")
    with pytest.raises(MemoryRefused, match="another backbone"):
        other.restore(snapshot.name)
    other.close()
