"""The client and its command line against a real gateway on a real port."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from claimsight import Claimsight, Refused, Unreachable
from claimsight import folder as folders
from claimsight.cli import app
from claimsight.transport import Transport
from typer.testing import CliRunner

from tests.unit.gateway.fakes import Fakes, FakeSegmenter
from tests.unit.gateway.pictures import RED, photo
from tests.unit.gateway.servers import valkey
from tests.unit.gateway.serving import served


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with valkey() as redis_url, served(tmp_path_factory.mktemp("gateway"), redis_url, Fakes()) as address:
        yield address


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos of one car in a folder, one of another beside it, and what is no photo."""
    folder = tmp_path / "photos"
    (folder / "car").mkdir(parents=True)
    (folder / "car" / "a.jpg").write_bytes(photo(RED))
    (folder / "car" / "b.JPG").write_bytes(photo())
    (folder / "c.png").write_bytes(photo(RED, kind="PNG"))
    (folder / "notes.txt").write_text("no photo")
    (folder / ".hidden.jpg").write_bytes(b"")
    return folder


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, result.output


def test_a_claim_is_sent_waited_for_and_typed(url: str) -> None:
    with Claimsight(url) as client:
        claim = client.assess(photo(RED), external_ref="K-1", metadata={"policy": "A-17"})
        assert claim.status == "succeeded" and [finding.damage for finding in claim.findings] == ["dent"]
        assert claim.summary is not None and claim.external_ref == "K-1"
        assert (client.picture(claim.photos[0]) or b"")[8:12] == b"WEBP"
        assert [found.id for found in client.claims(external_ref="K-1")] == [claim.id]
        assert client.check(photo()).verdict == "retake"
        assert client.analyze(photo(RED)).findings[0].damage == "dent"
        with pytest.raises(Refused) as refused:
            client.claim("clm_00000000000000000000000000")
        assert (refused.value.status, refused.value.slug) == (404, "not-found")


def test_the_command_shows_findings_and_saves_overlays(url: str, photos: Path, tmp_path: Path) -> None:
    status, output = run("assess", str(photos / "car/a.jpg"), "--overlays", str(tmp_path / "drawn"), "--url", url)
    assert status == 0, output
    assert "Dent" in output and "a.jpg" in output
    assert [file.name for file in (tmp_path / "drawn").iterdir()] == ["01-a.webp"]
    status, output = run("jobs", "--url", url)
    with Claimsight(url) as client:
        newest = next(client.claims())
    assert status == 0 and newest.id in output  # whole, also on 80 columns: it is to be copied


@pytest.mark.parametrize(
    ("option", "ids"), [([], ["c.png", "car/a.jpg", "car/b.JPG"]), (["--claim-per-folder"], [".", "car"])]
)
def test_a_folder_becomes_results_line_by_line(
    url: str, photos: Path, tmp_path: Path, option: list[str], ids: list[str]
) -> None:
    out, coco = tmp_path / "results.jsonl", tmp_path / "coco.json"
    status, output = run("batch", str(photos), "--out", str(out), "--coco", str(coco), "--url", url, *option)
    assert status == 0, output
    results = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(result["id"] for result in results) == ids
    assert sum(len(result["claim"]["photos"]) for result in results) == 3
    assert len(json.loads(coco.read_text())["annotations"]) == 2
    assert {file.name for file in tmp_path.iterdir() if file.is_file()} == {"results.jsonl", "coco.json"}


def test_a_batch_that_broke_off_goes_on_with_the_parts_that_are_missing(
    url: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_PART_BYTES", 1)  # each photo is a part
    planned, out, sent = folders.plan(photos, claim_per_folder=False), tmp_path / "results.jsonl", []
    with Claimsight(url) as client:
        put = client.batches.put_part

        def breaks(batch_id: str, number: int, archive: Path) -> object:
            sent.append(number)
            if sent == [1, 2]:
                raise Unreachable("the line went dead")
            return put(batch_id, number, archive)

        monkeypatch.setattr(client.batches, "put_part", breaks)
        with pytest.raises(Unreachable):
            folders.run(client, planned, out, coco=None, told=lambda *_: None)
        ended = folders.run(client, planned, out, coco=None, told=lambda *_: None)
        assert sent == [1, 2, 2, 3]
        assert ended.status == "succeeded" and len(out.read_text().splitlines()) == 3


def test_the_doctor_names_what_is_well_and_what_is_not(url: str) -> None:
    result = CliRunner().invoke(app, ["doctor", "--url", url, "--json"])
    assert result.exit_code == 0, result.output
    # Log lines of the gateway in this process come before it, and the last request's may come after.
    printed, _ = json.JSONDecoder().raw_decode(result.stdout[result.stdout.index("[\n") :])
    states = {check["what"]: check["state"] for check in printed}
    assert all(states[name] == "ok" for name in ("provider cpu", "gateway", "key", "segmenter", "classifier", "memory"))
    status, output = run("doctor", "--url", "http://127.0.0.1:1")
    assert status == 1 and "FAIL" in output and "make run" in " ".join(output.split())


def test_packs_are_listed_tried_activated_and_rolled_back_by_command(tmp_path: Path) -> None:
    fakes = Fakes()
    fakes.segmenter.others = {"2": FakeSegmenter()}
    with valkey() as redis_url, served(tmp_path, redis_url, fakes) as url:

        def packs(*words: str, status: int = 0) -> str:
            found, output = run("packs", *words, "--url", url)
            assert found == status, output
            return " ".join(output.split())

        assert "no canary" in packs("canary", "segmenter")
        assert "2 sees 100.0%" in packs("canary", "segmenter", "2", "--share", "1")
        with Claimsight(url) as client:
            client.assess(photo(RED))
            for _ in range(600):
                if compared := client.packs.comparisons():
                    break
                time.sleep(0.1)
        assert (compared[0].photos, compared[0].agreement, compared[0].same_title) == (1, 1, 1)
        told = packs("compare")
        assert "segmenter 1 -> 2, classifier 1" in told and "agreement 1.000, same title 1.000 of 1" in told
        assert "2 answers. Back to 1" in packs("activate", "segmenter", "2")
        assert "segmenter 2 there answers" in packs("list")
        assert "segmenter: 1 answers" in packs("rollback", "segmenter")
        refused = CliRunner().invoke(app, ["packs", "rollback", "classifier", "--url", url])
        assert refused.exit_code != 0 and "No other pack has answered" in str(refused.exception)


def test_a_busy_gateway_is_asked_again_when_it_says_so_and_with_the_same_key() -> None:
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.headers["Idempotency-Key"])
        if len(asked) < 3:
            return httpx2.Response(
                503, headers={"Retry-After": "0"}, json={"type": "urn:x:queue-full", "detail": "full"}
            )
        claim = {"id": "clm_1", "status": "succeeded", "created_at": "2026-01-31T09:30:00Z"}
        return httpx2.Response(202, json=claim)

    with Claimsight(http=httpx2.Client(transport=httpx2.MockTransport(answer))) as client:
        assert client.submit(b"photo").id == "clm_1"
    assert len(asked) == 3 and len(set(asked)) == 1


def test_a_gateway_that_restarts_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("claimsight.transport.time.sleep", lambda _: None)

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        if len(asked) in (2, 3):
            raise httpx2.ConnectError("refused")
        return httpx2.Response(200, json={"state": "ready"})

    with Claimsight(http=httpx2.Client(transport=httpx2.MockTransport(answer))) as client:
        assert client.ready() == client.ready() == "ready"
    assert len(asked) == 4


def test_what_cannot_be_mended_by_waiting_is_not_tried_again() -> None:
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        return httpx2.Response(422, json={"type": "urn:x:invalid-request", "detail": "no"})

    with Claimsight(http=httpx2.Client(transport=httpx2.MockTransport(answer))) as client, pytest.raises(Refused):
        client.submit(b"photo")
    assert len(asked) == 1


def test_nobody_at_the_address_is_at_once_one_sentence_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("claimsight.transport.time.sleep", slept.append)
    with pytest.raises(Unreachable, match="make run"):
        Transport("http://127.0.0.1:1", None, patience_s=120).send("GET", "/v1/claims")
    assert not slept
    with pytest.raises(Unreachable, match="no address"):
        Transport("127.0.0.1:8080", None, patience_s=0)
