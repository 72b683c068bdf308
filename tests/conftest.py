"""What serves is tested without torch; the tests of export/ are marked `train` and left out where torch is missing."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

_EXPORT = Path(__file__).parent / "export"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return True if collection_path == _EXPORT and find_spec("torch") is None else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _EXPORT in item.path.parents:
            item.add_marker(pytest.mark.train)
