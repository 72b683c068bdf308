"""What people decide in a real gateway becomes a split that the trainers read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

pytest.importorskip("torch")

from claimsight.transport import Transport

from export.data.coco import read_coco
from export.labelling.reviewed import collect
from tests.e2e.processes import post_claim
from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.pictures import RED, photo
from tests.unit.gateway.servers import valkey
from tests.unit.gateway.serving import served

pytestmark = pytest.mark.train


def decide(http: httpx2.Client, case_id: str, **verdict: str) -> None:
    case = http.post(f"/v1/reviews/{case_id}/lease", json={}).json()
    answer = http.post(
        f"/v1/reviews/{case_id}/decision",
        json={**verdict, "lease": case["lease"]},
        headers={"If-Match": f'"{case["version"]}"'},
    )
    assert answer.status_code == 200, answer.text


def test_decisions_become_a_split_with_boxes_outlines_parts_and_groups(tmp_path: Path) -> None:
    fakes = Fakes()
    fakes.segmenter.fake_score = 0.4
    with (
        valkey() as redis,
        served(tmp_path / "gateway", redis, fakes) as url,
        httpx2.Client(base_url=url, timeout=60) as http,
    ):
        shots = [photo(RED, size=(320 + 2 * n, 240)) for n in range(4)]
        claim: dict[str, Any] = post_claim(url, *shots).json()
        ids = [each["findings"][0]["id"] for each in claim["photos"]]
        decide(http, ids[0], action="accept")
        decide(http, ids[1], action="correct", damage="scratch", part="windshield")
        decide(http, ids[2], action="reject")  # the fourth stays undecided
        empty: dict[str, Any] = post_claim(url, photo(size=(340, 240))).json()
        decide(http, empty["id"], action="accept")
        drawn: dict[str, Any] = post_claim(url, photo(size=(342, 240))).json()
        here = f"/v1/claims/{drawn['id']}/photos/{drawn['photos'][0]['id']}/findings"
        assert http.post(here, json={"box": [0.1, 0.2, 0.4, 0.5], "damage": "dent"}).status_code == 201
        gateway = Transport(url, None, patience_s=5)
        path = collect(gateway, tmp_path / "data")
        first = path.read_bytes()
        kept = {file.name: file.stat().st_mtime_ns for file in (path.parent / "reviewed").iterdir()}
        assert collect(gateway, tmp_path / "data").read_bytes() == first  # and no photo was fetched again
        assert {file.name: file.stat().st_mtime_ns for file in (path.parent / "reviewed").iterdir()} == kept
        gateway.close()
    photos = read_coco(path).photos
    accepted, corrected, rejected, undecided, nothing, mine = (
        each["id"] for each in [*claim["photos"], *empty["photos"], *drawn["photos"]]
    )
    told = {shot.path.stem: [(a.category, a.part, a.has_mask) for a in shot.annotations] for shot in photos}
    assert told == {
        accepted: [("dent", "front_left_door", True)],
        corrected: [("scratch", "windshield", True)],
        rejected: [],
        nothing: [],
        mine: [("dent", None, False)],
    }
    assert undecided not in told
    assert {shot.path.stem for shot in photos if shot.negative} == {rejected, nothing}
    groups = {shot.path.stem: shot.group for shot in photos}
    assert groups[accepted] == groups[corrected] == groups[rejected] and len(set(groups.values())) == 3
    (shot,) = [shot for shot in photos if shot.path.stem == mine]
    scale = (shot.width, shot.height) * 2
    assert [edge / side for edge, side in zip(shot.annotations[0].box, scale, strict=True)] == pytest.approx(
        [0.1, 0.2, 0.4, 0.5], abs=1e-3
    )
