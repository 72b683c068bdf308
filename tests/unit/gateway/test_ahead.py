"""Photos that are decoded while their claim is being accepted: a gift to the worker, bounded, and gone when taken."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pytest import MonkeyPatch

from services.common.vision.photo import Photo, PhotoError
from services.gateway import ahead
from services.gateway.ahead import Ahead
from services.gateway.photos import PhotoStore
from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.pictures import RED, photo
from tests.unit.gateway.running import gateway


def fetched(places: int) -> Ahead:
    photos = Ahead(max_pixels=1_000_000)
    photos.fetch(places)
    return photos


async def test_without_a_worker_in_the_process_nothing_is_decoded() -> None:
    photos = Ahead(max_pixels=1_000_000)
    photos.begin("pho_1", photo())
    assert photos.take("pho_1") is None


async def test_a_photo_is_its_takers_alone() -> None:
    photos = fetched(1)
    photos.begin("pho_1", photo(size=(320, 240)))
    taken = photos.take("pho_1")
    assert taken is not None and photos.take("pho_1") is None
    found = await taken
    assert isinstance(found, Photo) and found.pixels.shape == (240, 320, 3)


async def test_no_more_photos_are_held_than_the_worker_takes_at_once() -> None:
    photos = fetched(2)
    for name in ("pho_1", "pho_2", "pho_3"):
        photos.begin(name, photo())
    assert photos.take("pho_3") is None
    assert photos.take("pho_1") is not None
    photos.begin("pho_4", photo())
    assert photos.take("pho_4") is not None


async def test_a_photo_that_nobody_comes_for_is_forgotten(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_KEPT_S", 0.01)
    photos = fetched(1)
    photos.begin("pho_1", photo())
    await asyncio.sleep(0.2)
    assert photos.take("pho_1") is None


async def test_whoever_takes_a_broken_photo_hears_why() -> None:
    photos = fetched(1)
    photos.begin("pho_1", photo()[:400])
    taken = photos.take("pho_1")
    assert taken is not None
    with pytest.raises(PhotoError, match="damaged or cut off"):
        await taken


async def test_a_claim_that_is_assessed_at_once_is_not_read_back(
    tmp_path: Path, redis_url: str, monkeypatch: MonkeyPatch
) -> None:
    async def lost(_store: PhotoStore, photo_id: str) -> bytes:
        raise LookupError(photo_id)

    async with gateway(tmp_path, redis_url, Fakes()) as http:
        monkeypatch.setattr(PhotoStore, "get_photo", lost)
        answer = await http.post("/v1/claims", files={"photos": photo(RED)}, headers={"Prefer": "wait=30"})
        assert answer.json()["photos"][0]["status"] == "succeeded"
