"""The memory that grows: cases of people count at once, can be taken back, and cannot do harm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.common.serving.errors import InvalidRequest, MemoryRefused, NotFound, Unprocessable
from services.common.serving.schemas import Neighbour
from services.retrieval.memory import PER_CLAIM, Memory
from tests.unit.retrieval import cases


@pytest.fixture(scope="module")
def pack_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pack")


@pytest.fixture
def memory(pack_folder: Path, tmp_path: Path) -> Iterator[Memory]:
    opened = cases.opened(cases.small(pack_folder), tmp_path / "data")
    yield opened
    opened.close()


def _near(memory: Memory, seed: int = 0, *, tenant: str | None = "acme") -> list[Neighbour]:
    (found,) = memory.search(cases.crop(seed)[None], k=15, tenant=tenant)
    return found


def test_a_case_counts_in_the_next_search(memory: Memory) -> None:
    assert memory.add(cases.case(size="small", part="hood"), cases.crop(0), tenant="acme").outcome == "kept"
    nearest = _near(memory)[0]
    assert (nearest.id, nearest.label, nearest.source, nearest.size) == ("rev_1", "dent", "human", "small")
    assert nearest.distance < 1e-5


def test_a_retracted_case_leaves_every_answer_exactly_as_it_was(memory: Memory) -> None:
    before = [_near(memory, seed) for seed in range(5)]
    for number in range(30):
        memory.add(cases.case(f"rev_{number}", claim_id=f"clm_{number}"), cases.crop(number), tenant="acme")
    assert [_near(memory, seed) for seed in range(5)] != before
    for number in range(30):
        memory.retract(f"rev_{number}", tenant="acme", reviewer="bo")
    assert [_near(memory, seed) for seed in range(5)] == before
    memory.retract("rev_1", tenant="acme")  # again is no error
    assert memory.stats("acme").retracted == 30


def test_tenants_never_see_each_others_cases(memory: Memory) -> None:
    memory.add(cases.case(), cases.crop(0), tenant="acme")
    for stranger in ("other", None):
        assert "rev_1" not in {neighbour.id for neighbour in _near(memory, tenant=stranger)}
    with pytest.raises(NotFound):
        memory.retract("rev_1", tenant="other")
    with pytest.raises(NotFound):
        memory.correct("rev_1", "scratch", tenant="other")
    assert (memory.stats("other").cases, memory.log("other")) == ({}, [])
    assert _near(memory)[0].id == "rev_1"


def test_a_corrected_case_has_its_new_label_at_once_and_after_a_start(pack_folder: Path, tmp_path: Path) -> None:
    memory = cases.opened(cases.small(pack_folder), tmp_path / "data")
    memory.add(cases.case(label="dent"), cases.crop(0), tenant="acme")
    memory.correct("rev_1", "scratch", tenant="acme", reviewer="bo")
    assert _near(memory)[0].label == "scratch"
    memory.close()
    memory = cases.opened(cases.small(pack_folder), tmp_path / "data")
    assert _near(memory)[0].label == "scratch"
    assert memory.stats("acme").cases == {"scratch": 1}
    memory.close()


def test_the_same_case_sent_again_changes_nothing(memory: Memory) -> None:
    first = memory.add(cases.case(), cases.crop(0), tenant="acme")
    assert memory.add(cases.case(), cases.crop(0), tenant="acme") == first
    assert len(memory) == cases.FEW + 1
    with pytest.raises(MemoryRefused, match="id of its own"):
        memory.add(cases.case(label="scratch"), cases.crop(0), tenant="acme")
    memory.retract("rev_1", tenant="acme")
    with pytest.raises(MemoryRefused, match="taken back"):
        memory.add(cases.case(), cases.crop(0), tenant="acme")


def test_one_crop_that_two_people_label_alike_votes_once_until_both_take_it_back(memory: Memory) -> None:
    memory.add(cases.case("rev_1"), cases.crop(0), tenant="acme")
    again = memory.add(cases.case("rev_2", claim_id="clm_2"), cases.crop(0), tenant="acme")
    assert (again.outcome, again.same_as) == ("known", "rev_1")
    assert [n.id for n in _near(memory) if n.source == "human"] == ["rev_1"]
    memory.retract("rev_1", tenant="acme")
    assert [n.id for n in _near(memory) if n.source == "human"] == ["rev_2"]
    memory.retract("rev_2", tenant="acme")
    assert [n.id for n in _near(memory) if n.source == "human"] == []


def test_two_people_who_disagree_on_one_crop_are_both_heard(memory: Memory) -> None:
    memory.add(cases.case("rev_1"), cases.crop(0), tenant="acme")
    memory.add(cases.case("rev_2", claim_id="clm_2"), cases.crop(0), tenant="acme")
    memory.correct("rev_2", "scratch", tenant="acme")
    assert {n.id: n.label for n in _near(memory) if n.source == "human"} == {"rev_1": "dent", "rev_2": "scratch"}
    memory.add(cases.case("rev_3", claim_id="clm_3"), cases.crop(0), tenant="acme")
    memory.correct("rev_1", "broken_part", tenant="acme")  # rev_3, which said the same, still says dent
    assert {n.id: n.label for n in _near(memory) if n.source == "human"} == {
        "rev_1": "broken_part",
        "rev_2": "scratch",
        "rev_3": "dent",
    }


def test_a_claim_adds_only_so_many_cases(memory: Memory) -> None:
    for number in range(PER_CLAIM):
        memory.add(cases.case(f"rev_{number}"), cases.crop(number), tenant="acme")
    with pytest.raises(MemoryRefused, match=str(PER_CLAIM)):
        memory.add(cases.case("rev_more"), cases.crop(99), tenant="acme")
    memory.add(cases.case("rev_else", claim_id="clm_1"), cases.crop(99), tenant="other")  # not the same claim
    memory.retract("rev_0", tenant="acme")
    memory.add(cases.case("rev_more"), cases.crop(99), tenant="acme")


def test_every_change_stands_in_the_log_with_who_made_it(memory: Memory) -> None:
    memory.add(cases.case(), cases.crop(0), tenant="acme")
    memory.correct("rev_1", "scratch", tenant="acme", reviewer="bo")
    memory.retract("rev_1", tenant="acme", reviewer="cy")
    found = {entry.action: entry for entry in memory.log("acme")}
    assert {name: entry.reviewer for name, entry in found.items()} == {
        "kept": "ana",
        "corrected": "bo",
        "retracted": "cy",
    }
    assert found["corrected"].detail == {"label": "scratch", "before": "dent"}
    assert {entry.case_id for entry in found.values()} == {"rev_1"}


def test_what_is_no_case_is_refused_and_leaves_nothing(memory: Memory) -> None:
    good, nan = cases.crop(0), cases.crop(0)
    nan[0] = np.nan
    for embedding in (nan, 2 * good, good[:10]):
        with pytest.raises(InvalidRequest):
            memory.add(cases.case(), embedding, tenant="acme")
    with pytest.raises(InvalidRequest, match="another backbone"):
        memory.add(cases.case(), good, tenant="acme", backbone="b" * 64)
    with pytest.raises(Unprocessable, match="dent, scratch, broken_part"):
        memory.add(cases.case(label="rust"), good, tenant="acme")
    with pytest.raises(Unprocessable):
        memory.search(good[None], k=1, label="rust")
    assert len(memory) == cases.FEW
    assert memory.log("acme") == []
