"""Photos are kept by their content."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import pytest

from services.gateway.photos import PhotoStore


async def test_a_large_photo_is_hashed_beside_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256, threads = hashlib.sha256, []

    def watched(data: bytes) -> Any:
        threads.append(threading.current_thread())
        return sha256(data)

    monkeypatch.setattr(hashlib, "sha256", watched)
    data = b"x" * 1_000_000
    store = PhotoStore(str(tmp_path))
    assert await store.put_photo(data) == sha256(data).hexdigest()
    assert await store.get_photo(sha256(data).hexdigest()) == data
    assert threads and threading.main_thread() not in threads
