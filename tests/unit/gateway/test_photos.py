"""Photos are kept by their ids, and erased without a trace."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from services.common.serving.errors import NotReady
from services.gateway import ids
from services.gateway.photos import PhotoStore


async def test_a_photo_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    store, photo_id = PhotoStore(str(tmp_path)), ids.new("pho")
    await store.put_photo(photo_id, b"x" * 1_000_000)
    assert await store.get_photo(photo_id) == b"x" * 1_000_000


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


async def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    store = PhotoStore(str(tmp_path / "photos"))
    await store.ping()
    shutil.rmtree(tmp_path / "photos")
    with pytest.raises(NotReady, match="photo store"):
        await store.ping()
