"""The rows in both databases: the same verbs, the same truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import IntegrityError

from services.common.serving import migrations
from services.retrieval import tables
from services.retrieval.memory import Memory
from services.retrieval.rows import MemoryRows, Row, from_bytes, to_bytes
from tests.packs import BACKBONE
from tests.unit.gateway.servers import postgres, postgres_binaries
from tests.unit.retrieval import cases


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "sqlite":
        yield cases.rows_url(tmp_path_factory.mktemp("rows"))
        return
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with postgres(binaries) as served:
        yield served


def test_a_memory_is_loaded_once_and_searched(url: str, tmp_path: Path) -> None:
    pack = cases.pack(tmp_path / "pack")
    for _ in range(2):
        memory = Memory.open(pack, folder=tmp_path / "data", database_url=url)
        ((found,),) = memory.search(cases.unit(cases.arrays()["embedding"])[7:8], k=1)
        assert (len(memory), found.id) == (cases.ROWS, "memory-1/7")
        memory.close()


def test_a_pack_takes_the_place_of_the_former_one_whole_or_not_at_all(url: str) -> None:
    rows = MemoryRows(url)
    good = [_row(f"a/{position}") for position in range(3)]
    rows.load_pack("a" * 64, "memory", "1", good)
    with pytest.raises(IntegrityError):
        rows.load_pack("b" * 64, "memory", "2", [_row("b/0"), _row("b/0")])
    assert rows.has_pack("a" * 64)
    assert not rows.has_pack("b" * 64)
    assert set(rows.get(["a/0", "b/0"])) == {"a/0"}
    rows.close()


def test_half_precision_keeps_directions() -> None:
    vectors = cases.unit(np.random.default_rng(0).normal(size=(50, 256)))
    kept = from_bytes([to_bytes(vector) for vector in vectors])
    assert np.allclose((kept * vectors).sum(axis=1), 1, atol=1e-5)
    assert np.allclose(np.linalg.norm(kept, axis=1), 1, atol=1e-6)


def _row(name: str) -> Row:
    return Row(name, to_bytes(np.eye(1, 8)[0]), "dent", "training", BACKBONE)


def test_a_database_from_before_migrations_is_taken_over_and_can_go_back(tmp_path: Path) -> None:
    engine = create_engine(cases.rows_url(tmp_path))
    scripts = Path(tables.__file__).parent / "migrations"

    def migrate(verb: Callable[[Config, str], None], to: str) -> None:
        with engine.begin() as connection:
            prepared = migrations.config(scripts)
            prepared.attributes["connection"] = connection
            verb(prepared, to)

    migrate(command.upgrade, "0001")
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE memory_alembic_version"))
        connection.execute(
            text(
                "INSERT INTO memory_rows (id, embedding, label, source, backbone, created_at) "
                "VALUES ('old/0', :embedding, 'dent', 'training', :backbone, 0)"
            ),
            {"embedding": to_bytes(np.eye(1, 8)[0]), "backbone": BACKBONE},
        )
    rows = MemoryRows(cases.rows_url(tmp_path))
    assert rows.get(["old/0"])["old/0"].living
    rows.close()
    migrate(command.downgrade, "0001")
    assert "claim_id" in {column["name"] for column in inspect(engine).get_columns("memory_rows")}
    migrate(command.downgrade, "base")
    engine.dispose()
