"""The memory: what it finds, what it refuses, what it survives."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from services.common.serving.errors import InvalidRequest
from services.common.serving.modelpack import PackError
from services.retrieval.index import NeighbourIndex
from services.retrieval.rows import MemoryRows
from tests.packs import BACKBONE, VOCABULARY
from tests.unit.retrieval import cases


def _queries(n: int = 40) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return cases.unit(cases.arrays(n, seed=99)["embedding"])


def test_neighbours_are_those_of_an_exact_search(tmp_path: Path) -> None:
    memory = cases.opened(cases.pack(tmp_path / "pack"), tmp_path / "data")
    positions, distances = cases.exact(_queries(), cases.unit(cases.arrays()["embedding"]), 8)
    found = memory.search(_queries(), k=8)
    memory.close()
    same = [
        {n.id for n in row} == {f"memory-1/{p}" for p in exact} for row, exact in zip(found, positions, strict=True)
    ]
    assert np.mean(same) > 0.95  # HNSW is approximate by nature
    assert np.allclose([row[0].distance for row in found], distances[:, 0], atol=1e-3)
    assert all(row == sorted(row, key=lambda neighbour: neighbour.distance) for row in found)


def test_a_neighbour_carries_its_label_size_and_source(tmp_path: Path) -> None:
    memory = cases.opened(cases.pack(tmp_path / "pack"), tmp_path / "data")
    written = cases.arrays()
    ((found,),) = memory.search(cases.unit(written["embedding"])[7:8], k=1)
    memory.close()
    assert found.id == "memory-1/7"
    assert found.label == VOCABULARY.classes[int(written["label"][7])]
    assert found.size == ("small", "medium", "large")[int(written["size"][7])]
    assert found.source == "training"
    assert found.distance < 1e-3


def test_a_second_start_neither_loads_nor_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = cases.pack(tmp_path / "pack")
    cases.opened(pack, tmp_path / "data").close()
    monkeypatch.setattr(NeighbourIndex, "build", _must_not_run)
    monkeypatch.setattr(MemoryRows, "load_pack", _must_not_run)
    memory = cases.opened(pack, tmp_path / "data")
    assert len(memory) == cases.ROWS
    memory.close()


def _must_not_run(*_: object, **__: object) -> None:
    raise AssertionError("this was done already")


def _remove_seal(index: Path) -> None:
    (index / "seal.json").unlink()


def _damage_vectors(index: Path) -> None:
    with next(index.glob("*/*/data_level0.bin")).open("r+b") as file:
        file.write(b"\xff" * 20_000)


def _lose_segment(index: Path) -> None:
    for file in index.glob("*/*/*"):
        file.unlink()


def _damage_database(index: Path) -> None:
    next(index.glob("*/chroma.sqlite3")).write_bytes(b"not a database" * 100)


def _empty_database(index: Path) -> None:
    next(index.glob("*/chroma.sqlite3")).write_bytes(b"")


@pytest.mark.parametrize("damage", [_remove_seal, _damage_vectors, _lose_segment, _damage_database, _empty_database])
def test_a_damaged_index_is_built_again_from_the_rows(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    # more than 1000 rows, so that ChromaDB has written HNSW files at all
    pack = cases.pack(tmp_path / "pack", cases.arrays(1100))
    cases.opened(pack, tmp_path / "data").close()
    damage(tmp_path / "data" / "index")
    memory = cases.opened(pack, tmp_path / "data")
    assert (len(memory), memory.stats("acme").indexed) == (1100, 1100)
    ((found,),) = memory.search(cases.unit(cases.arrays(1100)["embedding"])[7:8], k=1)
    memory.close()
    assert found.id == "memory-1/7"


def test_rows_that_the_index_does_not_know_are_found_after_the_next_start(tmp_path: Path) -> None:
    pack = cases.pack(tmp_path / "pack")
    memory = cases.opened(pack, tmp_path / "data")
    memory.add(cases.case(part="hood"), _queries(1)[0], tenant="acme")
    memory.close()
    memory = cases.opened(pack, tmp_path / "data")
    ((found,),) = memory.search(_queries(1), k=1, tenant="acme")
    assert (found.id, found.source, found.part) == ("rev_1", "human", "hood")
    assert memory.stats("acme").indexed == cases.ROWS
    memory.close()


def test_a_claim_is_no_precedent_for_itself(tmp_path: Path) -> None:
    memory = cases.opened(cases.pack(tmp_path / "pack"), tmp_path / "data")
    memory.add(cases.case(claim_id="clm_1"), _queries(1)[0], tenant="acme")
    (others,) = memory.search(_queries(1), k=5, tenant="acme", exclude_claim="clm_1")
    (foreign,) = memory.search(_queries(1), k=5, tenant="acme", exclude_claim="clm_2")
    memory.close()
    assert len(others) == 5
    assert "rev_1" not in {neighbour.id for neighbour in others}
    assert foreign[0].id == "rev_1"


def test_another_pack_replaces_training_cases_and_keeps_those_of_people(tmp_path: Path) -> None:
    memory = cases.opened(cases.pack(tmp_path / "pack"), tmp_path / "data")
    memory.add(cases.case(), _queries(1)[0], tenant="acme")
    memory.close()
    newer = cases.pack(tmp_path / "pack", cases.arrays(cases.ROWS, seed=6), version="2")
    memory = cases.opened(newer, tmp_path / "data")
    (found,) = memory.search(_queries(1), k=50, tenant="acme")
    memory.close()
    assert len(memory_ids := {neighbour.id for neighbour in found}) == 50
    assert "rev_1" in memory_ids
    assert not any(name.startswith("memory-1/") for name in memory_ids)


def test_cases_of_another_backbone_stay_in_the_rows_and_out_of_sight(tmp_path: Path) -> None:
    memory = cases.opened(cases.pack(tmp_path / "pack"), tmp_path / "data")
    memory.add(cases.case(), _queries(1)[0], tenant="acme")
    memory.close()
    other = cases.pack(tmp_path / "pack", version="2", backbone="b" * 64)
    memory = cases.opened(other, tmp_path / "data")
    assert len(memory) == cases.ROWS
    memory.close()
    assert [row.id for row in MemoryRows(cases.rows_url(tmp_path / "data")).added(BACKBONE)] == ["rev_1"]


def test_the_embedding_of_another_backbone_is_refused_with_what_to_do(tmp_path: Path) -> None:
    memory = cases.opened(cases.pack(tmp_path / "pack"), tmp_path / "data")
    with pytest.raises(InvalidRequest, match=re.escape("python -m services.retrieval rebuild")):
        memory.search(_queries(1), k=1, backbone="b" * 64)
    with pytest.raises(InvalidRequest, match=re.escape("python -m services.retrieval rebuild")):
        memory.search(_queries(1)[:, :10], k=1)
    assert memory.search(_queries(1), k=1, backbone=BACKBONE)
    memory.close()


def test_what_is_no_embedding_is_refused(tmp_path: Path) -> None:
    memory = cases.opened(cases.pack(tmp_path / "pack"), tmp_path / "data")
    bad = _queries(1)
    with pytest.raises(InvalidRequest, match="length 1"):
        memory.search(2 * bad, k=1)
    bad[0, 3] = np.nan
    with pytest.raises(InvalidRequest, match="finite"):
        memory.search(bad, k=1)
    memory.close()


def test_a_pack_with_broken_rows_is_refused_by_name(tmp_path: Path) -> None:
    wrong_label = {**cases.arrays(), "label": np.full(cases.ROWS, 200, np.uint8)}
    with pytest.raises(PackError, match="label"):
        cases.opened(cases.pack(tmp_path / "a", wrong_label), tmp_path / "data")
    not_numbers = {**cases.arrays(), "embedding": np.full((cases.ROWS, cases.DIMENSION), np.nan, np.float16)}
    with pytest.raises(PackError, match="length 1"):
        cases.opened(cases.pack(tmp_path / "b", not_numbers), tmp_path / "data")
    shorter = {**cases.arrays(), "size": np.zeros(3, np.uint8)}
    with pytest.raises(PackError, match="differ in length"):
        cases.opened(cases.pack(tmp_path / "c", shorter), tmp_path / "data")
