"""Two searches, one answer: what ChromaDB's index finds is what comparing with every case finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from services.retrieval.memory import Memory
from services.retrieval.vectors import Where
from tests.packs import VOCABULARY
from tests.unit.retrieval import cases


def _queries() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return cases.unit(cases.arrays(40, seed=99)["embedding"])


def _both(memory: Memory, **narrowed: str) -> tuple[list[list[str]], list[list[str]]]:
    """Ids by the index and by the exact search, k = 8."""
    where = Where(**narrowed)
    found = []
    for exact_up_to in (0, 10**9):
        memory._nearest._exact_up_to = exact_up_to
        found.append([[n.id for n in row] for row in memory._nearest.search(_queries(), 8, where)])
    return found[0], found[1]


@pytest.fixture
def grown(tmp_path: Path) -> Memory:
    memory = cases.opened(cases.pack(tmp_path / "pack", cases.arrays(1100)), tmp_path / "data")
    for number, query in enumerate(_queries()[:20]):
        memory.add(cases.case(f"rev_{number}", claim_id=f"clm_{number}"), query, tenant="acme")
    memory.retract("rev_0", tenant="acme")
    return memory


@pytest.mark.parametrize("narrowed", [{}, {"tenant": "acme"}, {"tenant": "other"}, {"tenant": "acme", "size": "small"}])
def test_index_and_exact_search_agree(grown: Memory, narrowed: dict[str, str]) -> None:
    approximate, exact = _both(grown, **narrowed)
    grown.close()
    recall = np.mean([len(set(a) & set(b)) / 8 for a, b in zip(approximate, exact, strict=True)])
    assert recall > 0.99
    own = "rev_5" in exact[5]
    assert own == (narrowed.get("tenant") == "acme" and "size" not in narrowed)
    assert "rev_0" not in exact[0] + approximate[0]


def test_where_most_of_the_index_may_not_be_seen_the_exact_search_answers(tmp_path: Path) -> None:
    memory = cases.opened(cases.pack(tmp_path / "pack"), tmp_path / "data")
    for number in range(40):  # around one query more foreign cases than the index hands out spare
        near = cases.unit(_queries()[:1] + 0.1 * cases.crop(number)[None])[0]
        label = VOCABULARY.classes[number % 3]
        memory.add(cases.case(f"rev_{number}", label, claim_id=f"c{number}"), near, tenant="acme")
    far = len(memory)
    memory.close()
    memory = cases.opened(cases.pack(tmp_path / "pack"), tmp_path / "data", rebuild=True)
    assert memory.stats("acme").indexed == far > cases.ROWS + 20
    approximate, exact = _both(memory, tenant="other")
    memory.close()
    assert approximate == exact
    assert not any(name.startswith("rev_") for row in exact for name in row)


def test_a_distance_does_not_depend_on_what_else_is_stored(tmp_path: Path) -> None:
    few = cases.opened(cases.pack(tmp_path / "few", cases.arrays(50)), tmp_path / "a")
    ((one,),) = few.search(cases.unit(cases.arrays(50)["embedding"])[3:4] * np.float32(0.999), k=1)
    few.close()
    many = cases.opened(cases.pack(tmp_path / "many", cases.arrays(50), version="9"), tmp_path / "b")
    for number in range(25):
        many.add(cases.case(f"rev_{number}", claim_id=f"c{number}"), cases.crop(number), tenant="acme")
    ((same,),) = many.search(cases.unit(cases.arrays(50)["embedding"])[3:4] * np.float32(0.999), k=1, tenant="acme")
    many.close()
    assert one.distance == same.distance
