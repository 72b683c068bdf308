"""The audit never calls unknown what it calls safe."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("audit", ROOT / "deploy" / "audit.py")
assert _spec is not None and _spec.loader is not None
audit = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(audit)

CLEAN = {"name": "redis", "version": "8.1.0", "vulns": []}
UNKNOWN = {"name": "numpy", "skip_reason": "Dependency not found on PyPI and could not be audited"}
WEAK = {"name": "pillow", "version": "1.0", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.0"]}]}
ACCEPTED = {
    "name": "chromadb",
    "version": "1.5.9",
    "vulns": [{"id": "GHSA-1", "aliases": ["CVE-2026-45829"], "fix_versions": []}],
}


@pytest.mark.parametrize(
    ("packages", "status", "told"),
    [
        ([CLEAN], 0, "1 packages looked up"),
        ([], audit.NOT_REACHED, "NOT REACHED"),
        ([UNKNOWN], audit.NOT_REACHED, "NOT REACHED"),  # pip-audit itself ends with 0 here
        ([CLEAN, UNKNOWN], audit.NOT_REACHED, "NOT LOOKED UP: numpy"),
        ([CLEAN, WEAK], audit.WEAK, "pillow 1.0 has PYSEC-1 (mended in 2.0"),
        ([UNKNOWN, WEAK], audit.WEAK, "NOT LOOKED UP: numpy"),
        ([ACCEPTED], 0, "chromadb 1.5.9 has GHSA-1 (accepted: "),
        ([ACCEPTED, WEAK], audit.WEAK, "pillow 1.0 has PYSEC-1"),
    ],
)
def test_what_was_not_looked_up_is_not_called_safe(packages: list[Any], status: int, told: str) -> None:
    found, lines = audit.verdict({"dependencies": packages})
    assert found == status
    assert told in "\n".join(lines)


def test_an_audit_that_could_not_ask_says_so() -> None:
    found, lines = audit.verdict(None)
    assert found == audit.NOT_REACHED
    assert "NOT REACHED" in lines[0]
