"""The packs that the project ships, in the process that `make run` starts: a rendered car, and real photos if any."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from export.data.toycar import render_claim
from tests.e2e.processes import ROOT, Service, post_claim, running
from tests.e2e.scenes import jpeg
from tests.unit.gateway.servers import free_port

MODELS = ROOT / "models"
REAL = ROOT.parent / "shared" / "data" / "damage"  # photos that may be looked at and not passed on
PHOTOS = 6  # of each kind

pytestmark = pytest.mark.skipif(
    not all(list(MODELS.glob(f"{name}/*/manifest.json")) for name in ("albert", "cropresmoe", "memory")),
    reason="models/ does not hold all three packs",
)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str]]:
    folder, port = tmp_path_factory.mktemp("shipped"), free_port()
    arguments = ("--port", str(port), "--data", str(folder / "data"))
    with running("services.standalone", *arguments, log=folder / "log") as service:
        service.wait_until_ready(f"http://127.0.0.1:{port}")
        yield service, f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def url(started: tuple[Service, str]) -> str:
    return started[1]


@pytest.fixture(scope="module")
def claims(url: str) -> dict[str, dict[str, Any]]:
    """One claim of real photos of damaged cars and one of whole ones."""
    listed = json.loads((REAL / "test.json").read_text())["images"]
    chosen = {
        "damaged": [image for image in listed if image["source"] == "bilgi" and not image["negative"]],
        "undamaged": [image for image in listed if image["negative"] == "undamaged_car"],
    }
    claims = {}
    for kind, images in chosen.items():
        photos = [(REAL / "images" / Path(image["file_name"]).name).read_bytes() for image in images[:PHOTOS]]
        claims[kind] = post_claim(url, *photos, wait_s=60).json()
    return claims


def test_the_served_models_are_the_shipped_packs_and_belong_together(started: tuple[Service, str]) -> None:
    service, url = started
    models = service.wait_until_it_remembers(url)
    assert models["segmenter"]["names_hash"] == models["classifier"]["names_hash"]
    assert models["memory"]["backbone"] == models["classifier"]["backbone"]
    assert models["memory"]["rows"] > 1000


def test_a_rendered_car_is_assessed_from_all_sides(url: str) -> None:
    scenes = render_claim(1, 3, damages=["dent", "scratch"])
    answer = post_claim(url, *(jpeg(scene.pixels) for scene in scenes), wait_s=60)
    assert answer.status_code == 200, answer.text
    for photo in answer.json()["photos"]:
        assert photo["status"] == "succeeded"
        assert httpx2.get(url + photo["links"]["overlay"], timeout=30).headers["content-type"] == "image/webp"


@pytest.mark.skipif(not REAL.is_dir(), reason="no real photos here")
class TestRealPhotos:
    """Sane answers, not accuracy: how good the models are is measured elsewhere, on all photos."""

    def test_every_photo_is_assessed(self, claims: dict[str, dict[str, Any]]) -> None:
        for claim in claims.values():
            assert (claim["status"], claim["partial"]) == ("succeeded", False)
            assert len(claim["photos"]) == PHOTOS

    def test_damaged_cars_have_more_findings_than_whole_ones(self, claims: dict[str, dict[str, Any]]) -> None:
        found = {kind: sum(bool(photo["findings"]) for photo in claim["photos"]) for kind, claim in claims.items()}
        assert found["damaged"] >= PHOTOS / 2
        assert found["damaged"] > found["undamaged"]

    def test_what_is_found_is_a_supported_name_inside_of_the_photo(
        self, url: str, claims: dict[str, dict[str, Any]]
    ) -> None:
        models = httpx2.get(f"{url}/v1/models", timeout=30).json()
        damages = set(models["segmenter"]["supported"]["damages"])
        classes = set(models["classifier"]["supported"]["classes"])
        for claim in claims.values():
            for finding in (finding for photo in claim["photos"] for finding in photo["findings"]):
                x0, y0, x1, y1 = finding["box"]
                assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
                assert finding["damage"] in damages
                assert finding["opinion"]["label"] in classes
                assert 0 < finding["confidence"] <= 1

    def test_cars_are_seen_as_vehicles(self, claims: dict[str, dict[str, Any]]) -> None:
        seen = [photo["vehicle"] for claim in claims.values() for photo in claim["photos"]]
        assert sum(share > 0.02 for share in seen) > len(seen) / 2
