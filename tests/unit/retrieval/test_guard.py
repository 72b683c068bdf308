"""The frozen regression set: right labels enter, wrong ones that do harm do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.common.serving.errors import MemoryRefused
from services.common.serving.modelpack import PackError
from services.retrieval.memory import Memory
from tests.packs import VOCABULARY
from tests.unit.retrieval import cases

CLASSES = VOCABULARY.classes


def _frozen(seeds: range) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    """Crops far from every training case, of which the model is nearly undecided and right by a hair."""
    n = len(seeds)
    label = np.arange(n) % 2
    p = np.tile(np.array([[0.49, 0.49, 0.02]], np.float32), (n, 1))
    p[np.arange(n), label] += 0.01
    p[np.arange(n), 1 - label] -= 0.01
    return {
        "embedding": np.stack([cases.crop(seed) for seed in seeds]).astype(np.float16),
        "probabilities": p,
        "label": label.astype(np.uint8),
    }


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    # reach 0.3: the pack's own cases, which lie farther away, have no say
    thresholds = {"max_distance": 0.3, "sharpness": 0.1}
    pack = cases.small(tmp_path / "pack", frozen=_frozen(range(20)), thresholds=thresholds)
    opened = cases.opened(pack, tmp_path / "data")
    yield opened
    opened.close()


def _right(memory: Memory, tenant: str = "acme") -> int:
    guard = memory.stats(tenant).guard
    assert guard is not None and (guard.crops, guard.right_before) == (20, 20)
    return guard.right_now


def test_a_wrong_label_that_makes_answers_worse_is_refused_with_the_numbers(memory: Memory) -> None:
    with pytest.raises(MemoryRefused, match="19 instead of 20 of 20"):
        memory.add(cases.case(label=CLASSES[1]), cases.crop(0), tenant="acme")
    assert (_right(memory), len(memory)) == (20, cases.FEW)
    (refused,) = memory.log("acme")
    assert refused.action == "refused" and refused.detail is not None and "19 instead" in str(refused.detail["why"])


def test_a_right_label_enters_and_a_harmful_correction_of_it_does_not(memory: Memory) -> None:
    memory.add(cases.case(label=CLASSES[0]), cases.crop(0), tenant="acme")
    with pytest.raises(MemoryRefused, match="19 instead"):
        memory.correct("rev_1", CLASSES[1], tenant="acme")
    ((found,),) = memory.search(cases.crop(0)[None], k=1, tenant="acme")
    assert found.label == CLASSES[0]
    assert _right(memory) == 20


def test_what_does_no_harm_enters_whatever_its_label(memory: Memory) -> None:
    memory.add(cases.case(label=CLASSES[2]), cases.crop(500), tenant="acme")
    assert _right(memory) == 20


def test_the_count_is_the_same_after_many_changes_as_after_a_fresh_start(tmp_path: Path) -> None:
    frozen = _frozen(range(40))
    frozen["label"][::4] = 2  # the model is wrong on ten: cases can make answers better, too
    pack = cases.small(tmp_path / "pack", frozen=frozen, thresholds={"max_distance": 0.9, "sharpness": 0.1})
    memory = cases.opened(pack, tmp_path / "data")
    rng = np.random.default_rng(0)
    refused = 0
    for number in range(60):
        near = cases.unit(cases.crop(int(rng.integers(40)))[None] + rng.normal(scale=0.05, size=(1, cases.DIMENSION)))[
            0
        ]
        case = cases.case(f"rev_{number}", CLASSES[int(rng.integers(3))], claim_id=f"clm_{number}")
        try:
            memory.add(case, near, tenant="acme")
            if number % 5 == 0:
                memory.retract(case.id, tenant="acme")
            elif number % 7 == 0:
                memory.correct(case.id, CLASSES[0], tenant="acme")
        except MemoryRefused:
            refused += 1
    told = memory.stats("acme").guard
    memory.close()
    memory = cases.opened(pack, tmp_path / "data")
    assert memory.stats("acme").guard == told
    assert 0 < refused < 60
    memory.close()


def test_taking_a_good_case_back_is_always_possible(memory: Memory) -> None:
    memory.add(cases.case(label=CLASSES[0]), cases.crop(0), tenant="acme")
    memory.retract("rev_1", tenant="acme")
    assert _right(memory) == 20


def test_a_broken_regression_set_is_refused_by_name(tmp_path: Path) -> None:
    frozen = _frozen(range(4))
    frozen["probabilities"] = np.zeros((4, 3), np.float32)
    with pytest.raises(PackError, match=r"regression.*add up"):
        cases.opened(cases.small(tmp_path / "pack", frozen=frozen), tmp_path / "data")
