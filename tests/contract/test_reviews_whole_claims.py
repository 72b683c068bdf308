"""Claims that wait for a person without a finding, and damages that people draw because the models missed them."""

from __future__ import annotations

import httpx2
import pytest

from services.common.serving.errors import NotReady
from services.gateway import ids
from services.gateway.reviews.schemas import Case, HeldCase, Progress
from tests.contract.test_reviews import Json, claim, decided, taken, undone
from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.pictures import DARK, RED, photo

BOX = [0.1, 0.2, 0.4, 0.5]


async def shown(http: httpx2.AsyncClient, made: Json) -> Json:
    body: Json = (await http.get(f"/v1/claims/{made['id']}")).json()
    return body


def codes(claim: Json) -> list[str]:
    return [reason["code"] for reason in claim["summary"]["reasons"]]


async def drawn(http: httpx2.AsyncClient, made: Json, **wish: object) -> httpx2.Response:
    here = f"/v1/claims/{made['id']}/photos/{made['photos'][0]['id']}/findings"
    return await http.post(here, json={"box": BOX, "damage": "scratch", "reviewer": "Ada", **wish})


@pytest.mark.parametrize(
    ("photos", "code"),
    [
        ((photo(),), "no_damage"),
        ((photo(ground=DARK),), "no_vehicle"),
        ((photo(RED), b"\xff\xd8\xff\xe0 no photo at all" + bytes(200)), "photo_failed"),
    ],
)
async def test_a_claim_in_review_for_a_reason_without_a_finding_has_a_case_of_its_own(
    http: httpx2.AsyncClient, photos: tuple[bytes, ...], code: str
) -> None:
    made = await claim(http, *photos)
    assert code in codes(made)
    cases = (await http.get("/v1/reviews")).json()["data"]
    (own,) = [case for case in cases if case["finding_id"] is None]
    assert own["id"] == own["claim_id"] == made["id"]
    case = (await http.post(f"/v1/reviews/{made['id']}/lease", json={"reviewer": "Ada"})).json()
    HeldCase.model_validate(case)
    assert case["finding"] is None and [shot["id"] for shot in case["photos"]] == [
        shot["id"] for shot in made["photos"]
    ]
    answer = await decided(http, {**case, "finding_id": case["id"]}, action="accept")
    assert answer.status_code == 200, answer.text
    Case.model_validate(answer.json())
    after = await shown(http, made)
    assert code not in codes(after)
    assert (after["summary"]["review"]["action"], after["summary"]["review"]["reviewer"]) == ("accept", "Ada")


async def test_agreeing_that_there_is_nothing_settles_the_claim_and_undo_restores_it(http: httpx2.AsyncClient) -> None:
    made = await claim(http, photo())
    case = await taken(http)
    done = (await decided(http, {**case, "finding_id": case["id"]}, action="accept")).json()
    after = await shown(http, made)
    assert after["summary"]["route"] == "auto" and codes(after) == []
    again = await undone(http, {**done, "finding_id": done["id"]})
    assert again.status_code == 200 and again.json()["lease"]
    assert (await shown(http, made))["summary"] == made["summary"]
    history = (await http.get(done["links"]["history"])).json()["data"]
    assert [(entry["action"], entry["undone_by"], entry["memory"]) for entry in history] == [("accept", "Ada", "none")]


@pytest.mark.parametrize(("action", "code"), [("ask", "photo_wanted"), ("reject", "person_objects")])
async def test_asking_for_a_photo_or_rejecting_keeps_the_claim_in_review_and_says_why(
    http: httpx2.AsyncClient, action: str, code: str
) -> None:
    made = await claim(http, photo())
    case = await taken(http)
    answer = await decided(http, {**case, "finding_id": case["id"]}, action=action, note="the left side, closer")
    assert answer.status_code == 200, answer.text
    after = await shown(http, made)
    (reason,) = after["summary"]["reasons"]
    assert (after["summary"]["route"], reason["code"]) == ("review", code)
    assert "the left side, closer" in reason["text"] and after["summary"]["review"]["note"] == "the left side, closer"
    body = (await http.get("/v1/reviews/progress")).json()
    Progress.model_validate(body)
    assert (body[action], body["done"], body["open"]) == (1, 1, 0)


async def test_what_fits_only_a_finding_or_only_a_claim_is_refused_and_says_so(http: httpx2.AsyncClient) -> None:
    made = await claim(http, photo())
    case = await taken(http)
    own = {**case, "finding_id": case["id"]}
    for verdict in ({"action": "correct", "damage": "dent"}, {"action": "ask"}):
        answer = await decided(http, own, **verdict)
        assert answer.status_code == 422 and answer.headers["Content-Type"] == "application/problem+json"
    for missing in ("crop.webp", "similar"):
        assert (await http.get(f"/v1/reviews/{made['id']}/{missing}")).status_code == 404
    added = (await drawn(http, made)).json()
    undo = (await undone(http, added)).json()
    assert (await decided(http, {**undo, "lease": None}, action="accept")).status_code == 412  # nothing is left of it


async def test_a_drawn_damage_counts_at_once_teaches_the_memory_and_can_be_taken_back(
    http: httpx2.AsyncClient, fakes: Fakes
) -> None:
    made = await claim(http, photo())
    answer = await drawn(http, made, part="front_left_door")
    assert answer.status_code == 201, answer.text
    body = answer.json()
    Case.model_validate(body)
    assert (body["state"], body["memory"], answer.headers["ETag"]) == ("done", "kept", f'"{body["version"]}"')
    after = await shown(http, made)
    (finding,) = after["photos"][0]["findings"]
    assert (finding["source"], finding["damage"], finding["box"]) == ("human", "scratch", BOX)
    assert finding["part"]["name"] == "front_left_door" and finding["review"]["action"] == "add"
    assert finding["opinion"]["label"] == "dent" and finding["area_share"] == pytest.approx(0.09, abs=0.01)
    assert (after["summary"]["route"], after["summary"]["findings"], codes(after)) == ("auto", 1, [])
    assert list(fakes.retrieval.cases.values()) == [("default", "scratch")]
    assert (await http.get(after["photos"][0]["links"]["overlay"])).status_code == 200
    assert (await http.get(f"/v1/reviews/{finding['id']}/crop.webp")).status_code == 200
    gone = await undone(http, body)
    assert gone.status_code == 200 and (gone.json()["state"], gone.json()["lease"]) == ("gone", None)
    restored = await shown(http, made)
    assert restored["photos"] == made["photos"] and restored["summary"] == made["summary"]
    assert fakes.retrieval.cases == {}
    waiting = (await http.get("/v1/reviews")).json()["data"]
    assert [case["id"] for case in waiting] == [made["id"]]  # the claim still waits, the drawn damage does not


async def test_the_same_box_sent_twice_is_there_once(http: httpx2.AsyncClient) -> None:
    made = await claim(http, photo())
    first, second = [(await drawn(http, made)).json() for _ in range(2)]
    assert first["id"] == second["id"]
    assert (await shown(http, made))["summary"]["findings"] == 1


async def test_what_cannot_be_drawn_is_refused_and_leaves_nothing(http: httpx2.AsyncClient, fakes: Fakes) -> None:
    made = await claim(http, photo())
    for wish in (
        {"box": [0.5, 0.5, 0.4, 0.6]},
        {"box": [0.5, 0.5, 0.501, 0.6]},
        {"box": [-0.1, 0, 0.5, 0.5]},
        {"box": [0.1, 0.1, 0.5]},
        {"damage": "ding"},
        {"part": "wing_of_a_plane"},
        {"side": "left"},
        {"reviewer": ""},
    ):
        answer = await drawn(http, made, **wish)
        assert answer.status_code == 422 and answer.headers["Content-Type"] == "application/problem+json", wish
    nowhere = await http.post(
        f"/v1/claims/{made['id']}/photos/{ids.new('pho')}/findings", json={"box": BOX, "damage": "dent"}
    )
    assert nowhere.status_code == 404
    fakes.classifier.problem = NotReady("The classifier is loading")
    assert (await drawn(http, made)).status_code == 503
    assert (await shown(http, made))["photos"] == made["photos"]


async def test_nothing_can_be_drawn_on_a_photo_that_failed(http: httpx2.AsyncClient) -> None:
    made = await claim(http, b"\xff\xd8\xff\xe0 no photo at all" + bytes(200), photo())
    answer = await drawn(http, made)
    assert answer.status_code == 409 and answer.json()["type"] == "urn:claimsight:problem:not-finished"
