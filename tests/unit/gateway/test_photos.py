"""Photos are kept by their ids, and erased without a trace."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import pytest

from services.gateway import ids
from services.gateway.photos import PhotoStore


async def test_a_large_photo_is_hashed_beside_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256, threads = hashlib.sha256, []

    def watched(data: bytes) -> Any:
        threads.append(threading.current_thread())
        return sha256(data)

    monkeypatch.setattr(hashlib, "sha256", watched)
    data = b"x" * 1_000_000
    store = PhotoStore(str(tmp_path))
    photo_id = ids.new("pho")
    assert await store.put_photo(photo_id, data) == sha256(data).hexdigest()
    assert await store.get_photo(photo_id) == data
    assert threads and threading.main_thread() not in threads


async def test_erasing_a_photo_leaves_no_file_of_it_and_touches_no_other(tmp_path: Path) -> None:
    store = PhotoStore(str(tmp_path))
    erased, other = ids.new("pho"), ids.new("pho")
    for photo_id in (erased, other):
        await store.put_photo(photo_id, b"the same bytes")
        await store.put_picture("overlay", photo_id, b"drawn")
    assert await store.erase(erased) == 2
    assert [path for path in tmp_path.rglob("*") if erased in path.name] == []  # noqa: ASYNC240
    assert await store.get_photo(other) == b"the same bytes"
    assert await store.erase(erased) == 0  # again, as after a crash in the middle
