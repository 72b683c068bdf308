"""Batches: many photos as archives and a manifest, each line a claim, results line by line."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
from pycocotools.coco import COCO

from tests.contract.keyring import bearing, key
from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.pictures import BLUE, RED, photo


def tar(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return made.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


async def created(http: httpx2.AsyncClient, **members: Any) -> str:
    answer = await http.post("/v1/batches", json=members)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == answer.json()["links"]["self"]
    return str(answer.headers["Location"])


async def put(http: httpx2.AsyncClient, where: str, content: bytes, status: int = 200) -> dict[str, Any]:
    answer = await http.put(where, content=content)
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def ended(http: httpx2.AsyncClient, batch: str) -> dict[str, Any]:
    assert (await http.post(f"{batch}/start")).status_code == 202
    async with asyncio.timeout(60):
        while (answer := (await http.get(batch)).json())["status"] == "processing":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return dict(answer)


async def results(http: httpx2.AsyncClient, batch: str) -> list[dict[str, Any]]:
    answer = await http.get(f"{batch}/results.jsonl")
    assert answer.status_code == 200
    return [json.loads(line) for line in answer.text.splitlines()]


def manifest(*lines: Any) -> bytes:
    return b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)


async def test_lines_become_claims_and_results_come_back_in_their_order(http: httpx2.AsyncClient) -> None:
    batch = await created(http, external_ref="fleet-7", metadata={"week": 47})
    shown = await put(http, f"{batch}/parts/1", tar({"a/1.jpg": photo(RED), "a/2.jpg": photo()}))
    assert [part["photos"] for part in shown["parts"]] == [2]
    await put(http, f"{batch}/parts/2", zipped({"b.png": photo(BLUE, kind="PNG")}))
    lines = [{"id": "K-1", "photos": ["a/1.jpg", "a/2.jpg"], "external_ref": "K-1"}, {"id": "K-2", "photos": ["b.png"]}]
    await put(http, f"{batch}/manifest", manifest(*lines))
    done = await ended(http, batch)
    assert (done["status"], done["progress"], done["failed"]) == ("succeeded", {"done": 2, "total": 2}, 0)
    first, second = await results(http, batch)
    assert (first["id"], first["status"], len(first["claim"]["photos"])) == ("K-1", "succeeded", 2)
    assert first["claim"]["external_ref"] == "K-1" and first["claim"]["photos"][0]["findings"][0]["damage"] == "dent"
    assert (second["id"], second["claim"]["photos"][0]["findings"]) == ("K-2", [])
    claim = (await http.get(f"/v1/claims/{first['claim']['id']}")).json()
    assert claim["photos"] == first["claim"]["photos"]
    assert [item["id"] for item in (await http.get("/v1/batches")).json()["data"]] == [done["id"]]


async def test_without_a_manifest_every_photo_is_a_claim(http: httpx2.AsyncClient) -> None:
    batch = await created(http)
    await put(http, f"{batch}/parts/1", tar({f"{n}.jpg": photo(RED) for n in range(12)}))
    done = await ended(http, batch)
    assert done["progress"] == {"done": 12, "total": 12}
    found = await results(http, batch)
    assert [result["id"] for result in found] == sorted(f"{n}.jpg" for n in range(12))
    assert len({result["claim"]["id"] for result in found}) == 12


async def test_what_cannot_be_used_fails_on_its_own_line(http: httpx2.AsyncClient) -> None:
    batch = await created(http)
    files = {
        "good.jpg": photo(RED),
        "broken.jpg": b"\xff\xd8\xff\xe0 no photo",
        "text.jpg": b"hello",
        "big.jpg": photo(),
    }
    await put(http, f"{batch}/parts/1", tar(files))
    lines = [
        {"id": "good", "photos": ["good.jpg", "broken.jpg"]},
        {"id": "text", "photos": ["text.jpg"]},
        {"id": "missing", "photos": ["nowhere.jpg"]},
        b'{"id": "cut", "photos": ["go',
        {"id": "again", "photos": ["good.jpg"]},
        {"id": "unknown", "photos": ["big.jpg"], "colour": "red"},
        b'{"id": "nan", "photos": ["big.jpg"], "metadata": {"n": NaN}}',
        {"id": "long", "photos": ["big.jpg"], "metadata": {"text": "x" * 70_000}},
    ]
    await put(http, f"{batch}/manifest", manifest(*lines))
    done = await ended(http, batch)
    assert (done["progress"]["total"], done["failed"]) == (8, 7)
    found = await results(http, batch)
    assert [(result["id"], result["status"]) for result in found][:3] == [
        ("good", "succeeded"), ("text", "failed"), ("missing", "failed"),
    ]  # fmt: skip
    assert found[0]["claim"]["partial"] and found[0]["claim"]["photos"][1]["error"]["status"] == 422
    slugs = [result["error"]["type"].rpartition(":")[2] for result in found[1:]]
    assert slugs == ["unsupported-media-type", "not-found", *["invalid-request"] * 5]
    assert "line 1" in found[4]["error"]["detail"] and all("Line" in result["error"]["detail"] for result in found[5:])


async def test_the_coco_file_is_read_by_pycocotools_at_the_photos_size(
    http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    batch = await created(http)
    await put(http, f"{batch}/parts/1", tar({"one.jpg": photo(RED), "two.jpg": photo(), "three.jpg": photo(RED, RED)}))
    early = await http.get(f"{batch}/results.coco.json")
    assert early.status_code == 409
    await ended(http, batch)
    file = tmp_path / "results.json"
    file.write_bytes((await http.get(f"{batch}/results.coco.json")).content)
    read = COCO(str(file))
    assert sorted(image["file_name"] for image in read.loadImgs(read.getImgIds())) == [
        "one.jpg",
        "three.jpg",
        "two.jpg",
    ]
    assert [category["name"] for category in read.loadCats(read.getCatIds())] == ["dent"]
    annotations = read.loadAnns(read.getAnnIds())
    assert len(annotations) == 2
    for annotation in annotations:
        image = read.loadImgs(annotation["image_id"])[0]
        mask = read.annToMask(annotation)
        assert mask.shape == (image["height"], image["width"]) == (240, 320)
        x, y, width, height = annotation["bbox"]
        assert mask.sum() == annotation["area"] == mask[round(y) : round(y + height), round(x) : round(x + width)].sum()


async def test_a_part_that_is_sent_again_is_there_once_and_another_one_replaces_it(
    http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    batch = await created(http)
    first = tar({"a.jpg": photo(RED)})
    once = await put(http, f"{batch}/parts/1", first)
    again = await put(http, f"{batch}/parts/1", first)
    assert once["parts"] == again["parts"]
    other = await put(http, f"{batch}/parts/1", tar({"a.jpg": photo(BLUE), "b.jpg": photo()}))
    assert [part["photos"] for part in other["parts"]] == [2]
    twice = await http.put(f"{batch}/parts/2", content=tar({"b.jpg": photo()}))
    assert twice.status_code == 422 and "b.jpg" in twice.json()["detail"]
    kept = [file for file in (tmp_path / "store" / "photos").rglob("*") if file.is_file()]
    assert len(kept) == 2  # nothing of the replaced part, nor of the refused one


async def test_a_canceled_batch_makes_no_more_claims_cancels_those_under_way_and_keeps_no_photo_of_its_own(
    http: httpx2.AsyncClient, fakes: Fakes, tmp_path: Path
) -> None:
    go_on = fakes.segmenter.hold()
    batch = await created(http)
    await put(http, f"{batch}/parts/1", tar({f"{n:03}.jpg": photo() for n in range(45)}))
    assert (await http.post(f"{batch}/start")).status_code == 202
    closed = await http.put(f"{batch}/parts/2", content=tar({"late.jpg": photo()}))
    assert closed.status_code == 409
    async with asyncio.timeout(60):
        while not (begun := (await http.get("/v1/claims?page_size=100")).json()["data"]):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    canceled = (await http.post(f"{batch}/cancel")).json()
    go_on.set()
    assert canceled["status"] == "canceled" == (await http.post(f"{batch}/cancel")).json()["status"]
    found = await results(http, batch)
    assert {result["status"] for result in found} >= {"canceled"} and len(begun) < 45
    async with asyncio.timeout(60):
        while True:  # one was perhaps becoming a claim just then: its photo is kept, and it is canceled on its own
            claims = (await http.get("/v1/claims?page_size=100")).json()["data"]
            kept = [file for file in (tmp_path / "store" / "photos").rglob("*") if file.is_file()]
            if {claim["status"] for claim in claims} <= {"succeeded", "canceled"} and len(claims) == len(kept):
                break
            await asyncio.sleep(0.02)
    assert len(claims) < 45


async def test_batches_are_nobody_elses_and_refuse_what_they_are_not(http: httpx2.AsyncClient) -> None:
    for where in ("/v1/batches/bat_00000000000000000000000000", "/v1/batches/nonsense"):
        assert (await http.get(where)).status_code == 404
        assert (await http.post(f"{where}/start")).status_code == 404
        assert (await http.put(f"{where}/parts/1", content=b"x")).status_code == 404
    batch = await created(http)
    assert (await http.post(f"{batch}/start")).status_code == 422  # empty
    assert (await http.put(f"{batch}/parts/0", content=tar({}))).status_code == 422
    assert (await http.post("/v1/batches", json={"metadata": [1]})).status_code == 422


async def test_another_tenants_batch_is_as_unknown_as_one_that_never_was(
    http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    http.headers.update(bearing(await key(tmp_path, "acme")))
    batch = await created(http)
    other = bearing(await key(tmp_path, "other"))
    parts = ("", "/parts/1", "/manifest", "/start", "/cancel", "/results.jsonl", "/results.coco.json")
    methods = ("GET", "PUT", "PUT", "POST", "POST", "GET", "GET")
    for method, part in zip(methods, parts, strict=True):
        content = tar({"a.jpg": photo()}) if method == "PUT" else None
        answer = await http.request(method, batch + part, content=content, headers=other)
        assert answer.status_code == 404, part
    assert (await http.get("/v1/batches", headers=other)).json()["data"] == []
    assert ((await http.get(batch)).json()["status"], (await http.get(batch)).json()["parts"]) == ("uploading", [])


async def test_a_batch_is_made_once_for_an_idempotency_key(http: httpx2.AsyncClient, tmp_path: Path) -> None:
    body = {"external_ref": "fleet-7", "metadata": {"week": 47, "fleet": 7}}
    same = {"metadata": {"fleet": 7, "week": 47}, "external_ref": "fleet-7"}
    own = bearing(await key(tmp_path, "acme")) | {"Idempotency-Key": "nightly-47"}
    sent = [await http.post("/v1/batches", json=each, headers=own) for each in (body, same)]
    assert [answer.status_code for answer in sent] == [201, 201]
    assert sent[0].json() == sent[1].json() and sent[0].headers["Location"] == sent[1].headers["Location"]
    assert [answer.headers.get("Idempotency-Replayed") for answer in sent] == [None, "true"]
    other = await http.post("/v1/batches", json={"external_ref": "fleet-8"}, headers=own)
    assert other.status_code == 422 and other.json()["type"].endswith(":idempotency-mismatch")
    claim = await http.post("/v1/claims", files={"photos": photo()}, headers=own)
    assert claim.status_code == 422 and claim.json()["type"].endswith(":idempotency-mismatch")
    foreign = bearing(await key(tmp_path, "other")) | {"Idempotency-Key": "nightly-47"}
    theirs = await http.post("/v1/batches", json=body, headers=foreign)
    assert theirs.status_code == 201 and theirs.json()["id"] != sent[0].json()["id"]
    assert len((await http.get("/v1/batches", headers=own)).json()["data"]) == 1
