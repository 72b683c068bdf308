"""The routes that answer at once: nothing is queued, nothing is kept."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import httpx2
import pytest
from PIL import Image, ImageFilter

from services.common.serving.errors import NotReady
from tests.contract.keyring import bearing, key
from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.pictures import RED, bomb, photo


def noise(*, size: tuple[int, int] = (800, 600), light: float = 1.0, blur: float = 0.0) -> bytes:
    """A photo full of detail, as dark or as blurred as asked for."""
    image = Image.effect_noise(size, 90).convert("RGB").point(lambda value: int(value * light))
    data = io.BytesIO()
    image.filter(ImageFilter.GaussianBlur(blur)).save(data, "JPEG")
    return data.getvalue()


async def post(http: httpx2.AsyncClient, path: str, data: bytes) -> httpx2.Response:
    return await http.post(path, files={"photo": ("a.txt", data, "text/plain")})


@pytest.mark.parametrize(
    ("data", "codes"),
    [
        (noise(), []),
        (noise(light=0.2), ["too_dark"]),
        (noise(blur=8), ["blurred"]),
        (noise(size=(300, 200)), ["too_small"]),
        (photo(ground=(255, 255, 255), size=(800, 600)), ["too_bright", "blurred"]),
    ],
)
async def test_a_check_says_what_to_do_better(http: httpx2.AsyncClient, data: bytes, codes: list[str]) -> None:
    answer = await post(http, "/v1/photos:check", data)
    assert answer.status_code == 200, answer.text
    assert [issue["code"] for issue in answer.json()["issues"]] == codes
    assert answer.json()["verdict"] == ("retake" if codes else "ok")


@pytest.mark.parametrize("path", ["/v1/photos:check", "/v1/damage:analyze", "/v1/similar"])
async def test_what_is_no_usable_photo_is_the_requests_own_problem(http: httpx2.AsyncClient, path: str) -> None:
    found = [await post(http, path, data) for data in (b"", b"MZ", bomb(), photo(RED)[:-200])]
    slugs = [answer.json()["type"].rpartition(":")[2] for answer in found]
    assert slugs == ["photo-undecodable", "unsupported-media-type", "photo-too-many-pixels", "photo-undecodable"]
    nothing = await http.post(path, files={"external_ref": (None, b"K-1")})
    assert nothing.status_code == 422


async def test_an_analysis_names_the_damage_and_keeps_nothing(http: httpx2.AsyncClient, tmp_path: Path) -> None:
    answer = await post(http, "/v1/damage:analyze", photo(RED))
    assert answer.status_code == 200, answer.text
    analysis = answer.json()
    assert [finding["damage"] for finding in analysis["photo"]["findings"]] == ["dent"]
    assert analysis["summary"]["findings"] == 1 and set(analysis["models"]) == {"segmenter", "classifier"}
    assert (await http.get("/v1/claims")).json()["data"] == []
    assert [file for file in (tmp_path / "store").rglob("*") if file.is_file()] == []


async def test_too_many_at_once_are_refused_and_later_ones_are_not(http: httpx2.AsyncClient, fakes: Fakes) -> None:
    go_on = fakes.segmenter.hold()
    sent = [asyncio.create_task(post(http, "/v1/damage:analyze", photo(RED))) for _ in range(12)]
    await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)  # by a refusal: the others are held
    go_on.set()
    found = await asyncio.gather(*sent)
    statuses = [answer.status_code for answer in found]
    assert set(statuses) == {200, 503}
    assert all(answer.headers["Retry-After"] for answer in found if answer.status_code == 503)
    assert (await post(http, "/v1/damage:analyze", photo(RED))).status_code == 200


async def test_similar_cases_of_each_damage_or_of_a_named_region(http: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.retrieval.neighbours = (("scratch", 0.1), ("dent", 0.2), ("dent", 0.3))
    answer = await http.post("/v1/similar?k=2", files={"photo": photo(RED)})
    assert answer.status_code == 200, answer.text
    (region,) = answer.json()["data"]
    assert region["damage"] == region["opinion"] == "dent"
    assert [near["label"] for near in region["neighbours"]] == ["scratch", "dent"]
    named = await http.post("/v1/similar?box=0.1,0.1,0.4,0.5", files={"photo": photo()})
    assert named.json()["data"][0]["box"] == [0.1, 0.1, 0.4, 0.5] and named.json()["data"][0]["damage"] is None
    assert (await http.post("/v1/similar", files={"photo": photo()})).json()["data"] == []
    for box in ("0,0,2,1", "1,2,3", "nan,0,1,1", "0.5,0,0.5,1"):
        assert (await http.post("/v1/similar", params={"box": box}, files={"photo": photo()})).status_code == 422


async def test_cases_that_another_tenants_reviewers_named_never_come_back(
    http: httpx2.AsyncClient, tmp_path: Path, fakes: Fakes
) -> None:
    fakes.retrieval.neighbours = (("dent", 0.3),)
    fakes.retrieval.cases = {"rev_acme": ("acme", "scratch"), "rev_other": ("other", "scratch")}
    for tenant in ("acme", "other", "third"):
        own = bearing(await key(tmp_path, tenant, "read", "submit"))
        for path in ("/v1/similar", "/v1/similar?box=0.1,0.1,0.4,0.5", "/v1/damage:analyze"):
            answer = await http.post(path, files={"photo": photo(RED)}, headers=own)
            assert answer.status_code == 200, answer.text
            found = answer.json()
            regions = found["data"] if "data" in found else found["photo"]["findings"]
            human = {near["id"] for region in regions for near in region["neighbours"] if near["source"] == "human"}
            assert human == {f"rev_{tenant}"} - {"rev_third"}, path


async def test_a_service_that_is_away_is_said_with_a_time_to_come_back(http: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.segmenter.problem = NotReady("The segmenter cannot be reached. Is it running?")
    answer = await post(http, "/v1/damage:analyze", photo(RED))
    assert answer.status_code == 503 and answer.headers["Retry-After"]
