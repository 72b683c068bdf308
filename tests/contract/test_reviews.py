"""`/v1/reviews`: every route and what it promises; two reviewers never overwrite each other."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from services.common.serving.errors import InvalidRequest, NotReady
from services.gateway import ids
from services.gateway.app import build_app
from services.gateway.reviews import schemas
from services.gateway.reviews.schemas import Case, HeldCase, History, PastCases, Progress, Queue
from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.pictures import RED, photo
from tests.unit.gateway.running import gateway, settings

Json = dict[str, Any]


@pytest.fixture
def fakes() -> Fakes:
    """A segmenter that is not sure, so that every finding goes to review."""
    made = Fakes()
    made.segmenter.fake_score = 0.4
    return made


async def claim(http: httpx2.AsyncClient, *photos: bytes, reference: str = "K-1") -> Json:
    answer = await http.post(
        "/v1/claims",
        files=[("photos", ("p.jpg", data, "image/jpeg")) for data in photos or (photo(RED),)],
        data={"external_ref": reference},
        headers={"Prefer": "wait=20"},
    )
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


async def taken(http: httpx2.AsyncClient, reviewer: str = "Ada") -> Json:
    answer = await http.post("/v1/reviews/next", json={"reviewer": reviewer})
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    HeldCase.model_validate(body)
    assert answer.headers["ETag"] == f'"{body["version"]}"'
    return body


async def decided(http: httpx2.AsyncClient, case: Json, **verdict: object) -> httpx2.Response:
    return await http.post(
        f"/v1/reviews/{case['finding_id']}/decision",
        json={"reviewer": "Ada", "lease": case.get("lease"), **verdict},
        headers={"If-Match": f'"{case["version"]}"'},
    )


async def undone(http: httpx2.AsyncClient, case: Json, reviewer: str = "Ada") -> httpx2.Response:
    return await http.post(
        f"/v1/reviews/{case['finding_id']}/undo",
        json={"reviewer": reviewer},
        headers={"If-Match": f'"{case["version"]}"'},
    )


async def shown(http: httpx2.AsyncClient, claim_id: str) -> tuple[Json, Json]:
    """The claim and its first finding."""
    body: Json = (await http.get(f"/v1/claims/{claim_id}")).json()
    return body, body["photos"][0]["findings"][0]


async def test_the_queue_holds_what_is_routed_to_review_and_nothing_else(
    http: httpx2.AsyncClient, fakes: Fakes
) -> None:
    await claim(http, photo(RED), photo(RED))
    fakes.segmenter.fake_score = 0.05
    clear = await claim(http)
    assert clear["summary"]["route"] == "auto"
    body = (await http.get("/v1/reviews", params={"page_size": 1})).json()
    Queue.model_validate(body)
    more = (await http.get("/v1/reviews", params={"page_token": body["next_page_token"]})).json()
    found = [*body["data"], *more["data"]]
    assert len(found) == 2 and len({case["finding_id"] for case in found}) == 2
    assert clear["id"] not in {case["claim_id"] for case in found}


async def test_the_most_informative_finding_comes_first_and_says_why(http: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.classifier.logits = (4.0, 0.0, 9.0)
    sure = await claim(http, reference="sure")
    fakes.classifier.logits = (0.2, 0.0, 9.0)  # nearly even between dent and scratch
    unsure = await claim(http, reference="unsure")
    fakes.classifier.logits = (0.0, 6.0, 9.0)  # sure of another damage
    contrary = await claim(http, reference="contrary")
    cases = [await taken(http) for _ in range(3)]
    assert {case["claim"]["id"] for case in cases[:2]} == {unsure["id"], contrary["id"]}
    assert cases[2]["claim"]["id"] == sure["id"]
    scores = [case["informative"]["score"] for case in cases]
    assert scores == sorted(scores, reverse=True)
    by_claim = {case["claim"]["external_ref"]: case["informative"] for case in cases}
    assert by_claim["unsure"]["uncertainty"] > 0.6 and by_claim["sure"]["uncertainty"] < 0.1
    assert by_claim["contrary"]["disagreement"] > 0.9 and by_claim["sure"]["disagreement"] == 0


async def test_two_reviewers_who_ask_at_once_get_two_findings(http: httpx2.AsyncClient) -> None:
    await claim(http, photo(RED), photo(RED))
    first, second = await asyncio.gather(taken(http, "Ada"), taken(http, "Bea"))
    assert first["finding_id"] != second["finding_id"]
    assert (await http.post("/v1/reviews/next", json={})).status_code == 204


async def test_confirming_settles_the_claim_and_teaches_the_memory(http: httpx2.AsyncClient, fakes: Fakes) -> None:
    made = await claim(http)
    assert made["summary"]["route"] == "review"
    case = await taken(http)
    answer = await decided(http, case, action="accept")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    Case.model_validate(body)
    assert (body["state"], body["memory"]) == ("done", "kept")
    after, finding = await shown(http, made["id"])
    assert after["summary"]["route"] == "auto" and after["summary"]["reasons"] == []
    assert (finding["damage"], finding["route"], finding["reasons"]) == ("dent", "auto", [])
    assert (finding["review"]["action"], finding["review"]["reviewer"]) == ("accept", "Ada")
    assert list(fakes.retrieval.cases.values()) == [("default", "dent")]
    assert list(fakes.retrieval.cases) == [finding["review"]["id"]]


async def test_a_correction_changes_damage_part_summary_and_what_is_learned(
    http: httpx2.AsyncClient, fakes: Fakes
) -> None:
    made = await claim(http)
    before = made["photos"][0]["links"]["overlay"]
    case = await taken(http)
    answer = await decided(http, case, action="correct", damage="scratch", part="windshield")
    assert answer.status_code == 200, answer.text
    after, finding = await shown(http, made["id"])
    assert (finding["damage"], finding["display"], finding["title"]) == ("scratch", "Scratch", "Scratch")
    assert finding["part"]["name"] == "windshield"
    assert finding["review"]["before"]["damage"] == "dent"
    assert finding["review"]["before"]["part"]["name"] == "front_left_door"
    assert finding["confidence"] == pytest.approx(0.018, abs=0.001)  # what the model had given to it, not a person's 1
    assert [(part["name"], part["damages"]) for part in after["summary"]["parts"]] == [("windshield", ["scratch"])]
    assert list(fakes.retrieval.cases.values()) == [("default", "scratch")]
    overlay = after["photos"][0]["links"]["overlay"]
    assert overlay != before and (await http.get(overlay)).status_code == 200  # browsers keep the old one for ever


async def test_a_rejected_finding_is_no_damage_and_no_doubt(http: httpx2.AsyncClient, fakes: Fakes) -> None:
    made = await claim(http)
    answer = await decided(http, await taken(http), action="reject")
    assert answer.json()["memory"] == "none"
    after, finding = await shown(http, made["id"])
    assert finding["review"]["action"] == "reject"
    assert after["summary"] == {"route": "auto", "reasons": [], "parts": [], "findings": 0, "review": None}
    assert fakes.retrieval.cases == {}


async def test_undo_restores_the_claim_exactly_and_the_memory_forgets(http: httpx2.AsyncClient, fakes: Fakes) -> None:
    made = await claim(http)
    done = (await decided(http, await taken(http), action="correct", damage="scratch")).json()
    answer = await undone(http, done)
    assert answer.status_code == 200, answer.text
    again = answer.json()
    assert again["state"] == "open" and again["held"]["by"] == "Ada" and again["lease"]
    restored, _ = await shown(http, made["id"])
    assert restored["photos"] == made["photos"] and restored["summary"] == made["summary"]
    assert fakes.retrieval.cases == {}
    assert (await decided(http, again, action="accept")).status_code == 200  # and can be decided anew at once
    history = (await http.get(done["links"]["history"])).json()
    History.model_validate(history)
    assert [entry["action"] for entry in history["data"]] == ["accept", "correct"]
    correct = history["data"][1]
    assert (correct["before"]["damage"], correct["after"]["damage"]) == ("dent", "scratch")
    assert correct["undone_by"] == "Ada" and correct["undone_at"] and correct["memory"] == "gone"
    assert correct["reviewer"] == "Ada" and correct["key_id"] is None


async def test_of_two_decisions_on_one_finding_the_second_is_refused_and_overwrites_nothing(
    http: httpx2.AsyncClient,
) -> None:
    made = await claim(http)
    case = await taken(http)
    first, second = await asyncio.gather(
        decided(http, case, action="accept"), decided(http, case, action="correct", damage="scratch")
    )
    assert sorted((first.status_code, second.status_code)) == [200, 412]
    refused = first if first.status_code == 412 else second
    assert refused.json()["type"] == "urn:claimsight:problem:review-changed"
    _, finding = await shown(http, made["id"])
    assert finding["review"]["action"] == ("accept" if first.status_code == 200 else "correct")
    assert len((await http.get(case["links"]["history"])).json()["data"]) == 1


async def test_what_somebody_has_open_is_refused_to_others_who_are_told_who(http: httpx2.AsyncClient) -> None:
    await claim(http)
    case = await taken(http, "Ada")
    lease = await http.post(f"{case['links']['self']}/lease", json={"reviewer": "Bea"})
    stranger = await decided(http, {**case, "lease": None}, action="reject")
    for answer in (lease, stranger):
        assert answer.status_code == 409
        assert answer.json()["type"] == "urn:claimsight:problem:review-held"
        assert answer.json()["held_by"] == "Ada" and "Ada" in answer.json()["detail"]
    prolonged = await http.post(f"{case['links']['self']}/lease", json={"reviewer": "Ada", "lease": case["lease"]})
    assert prolonged.status_code == 200 and prolonged.json()["version"] == case["version"]
    assert prolonged.json()["held"]["until"] >= case["held"]["until"]
    assert (await decided(http, case, action="accept")).status_code == 200


async def test_a_lease_that_ran_out_goes_to_the_next_and_the_late_decision_is_refused(
    tmp_path: Path, redis_url: str, fakes: Fakes
) -> None:
    async with gateway(tmp_path, redis_url, fakes, review_lease_seconds=0.2) as http:
        await claim(http)
        late = await taken(http, "Ada")
        await asyncio.sleep(0.3)
        current = await taken(http, "Bea")
        assert current["finding_id"] == late["finding_id"] and current["lease"] != late["lease"]
        assert (await decided(http, late, action="accept")).status_code == 412
        await asyncio.sleep(0.3)  # nobody took it from Bea meanwhile: her decision still counts
        assert (await decided(http, current, action="accept")).status_code == 200


async def test_skipping_puts_it_behind_and_letting_go_does_not(http: httpx2.AsyncClient) -> None:
    await claim(http, photo(RED), photo(RED))
    first = await taken(http)
    assert (await http.post(f"{first['links']['self']}/release", json={"lease": first["lease"]})).status_code == 204
    again = await taken(http)
    assert again["finding_id"] == first["finding_id"]
    assert (await http.post(f"{again['links']['self']}/skip", json={"lease": again["lease"]})).status_code == 204
    other = await taken(http)
    assert other["finding_id"] != first["finding_id"]
    assert (await http.post(f"{again['links']['self']}/skip", json={"lease": again["lease"]})).status_code == 412
    assert (await taken(http))["finding_id"] == first["finding_id"]


async def test_the_days_progress_counts_what_stands(http: httpx2.AsyncClient) -> None:
    await claim(http, photo(RED), photo(RED), photo(RED))
    await decided(http, await taken(http), action="accept")
    done = (await decided(http, await taken(http), action="reject")).json()
    body = (await http.get("/v1/reviews/progress")).json()
    Progress.model_validate(body)
    assert (body["accept"], body["reject"], body["correct"], body["done"], body["open"]) == (1, 1, 0, 2, 1)
    await undone(http, done)
    body = (await http.get("/v1/reviews/progress", params={"since": "2026-01-01T00:00:00+02:00"})).json()
    assert (body["done"], body["open"]) == (1, 2)
    later = (await http.get("/v1/reviews/progress", params={"since": "2200-01-01T00:00:00Z"})).json()
    assert later["done"] == 0


async def test_similar_cases_are_pictured_only_by_ones_own_reviewed_crops(
    http: httpx2.AsyncClient, fakes: Fakes
) -> None:
    fakes.retrieval.neighbours = (("dent", 0.2),)
    await claim(http, photo(RED), photo(RED))
    done = (await decided(http, await taken(http), action="accept")).json()
    other = await taken(http)
    body = (await http.get(other["links"]["similar"])).json()
    PastCases.model_validate(body)
    own, training = body["data"]
    assert (own["source"], own["picture"]) == ("human", f"/v1/reviews/{done['finding_id']}/crop.webp")
    assert (training["source"], training["picture"]) == ("training", None)
    picture = await http.get(own["picture"], params={"side": 96})
    assert picture.headers["Content-Type"] == "image/webp"
    assert max(Image.open(io.BytesIO(picture.content)).size) <= 96
    await undone(http, done)
    assert [near["picture"] for near in (await http.get(other["links"]["similar"])).json()["data"]] == [None]


async def test_a_decision_outlives_a_memory_that_is_away_and_is_learned_once_it_is_back(
    http: httpx2.AsyncClient, fakes: Fakes
) -> None:
    made = await claim(http)
    case = await taken(http)
    fakes.retrieval.problem = NotReady("The memory cannot be reached")
    answer = await decided(http, case, action="accept")
    assert answer.status_code == 200 and answer.json()["memory"] == "wanted"
    assert (await shown(http, made["id"]))[0]["summary"]["route"] == "auto"
    fakes.retrieval.problem = None
    async with asyncio.timeout(60):
        while (await http.get(case["links"]["self"])).json()["memory"] != "kept":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert len(fakes.retrieval.cases) == 1


async def test_what_the_memory_refuses_stands_all_the_same_and_says_why(http: httpx2.AsyncClient, fakes: Fakes) -> None:
    await claim(http)
    case = await taken(http)
    fakes.retrieval.problem = InvalidRequest("It makes the memory worse.")
    body = (await decided(http, case, action="accept")).json()
    assert (body["state"], body["memory"], body["memory_note"]) == (
        "done",
        "refused",
        "It makes the memory worse.",
    )


async def test_whoever_waits_for_the_claim_hears_of_the_decision(http: httpx2.AsyncClient) -> None:
    made = await claim(http)
    here = f"/v1/claims/{made['id']}"
    tag = (await http.get(here)).headers["ETag"]
    case = await taken(http)
    waiting = asyncio.create_task(http.get(here, params={"wait": 20}, headers={"If-None-Match": tag}))
    await asyncio.sleep(0.05)
    await decided(http, case, action="accept")
    assert (await asyncio.wait_for(waiting, 60)).json()["summary"]["route"] == "auto"


@pytest.mark.parametrize(
    ("verdict", "word"),
    [
        ({"action": "correct"}, "names a damage"),
        ({"action": "accept", "damage": "dent"}, "only `correct`"),
        ({"action": "correct", "damage": "bent_universe"}, "no damage"),
        ({"action": "correct", "part": "nose"}, "no part"),
        ({"action": "correct", "part": "front_left_door", "side": "right"}, "other side"),
        ({"action": "burn"}, "action"),
        ({"action": "accept", "reviewer": "a\u0000b"}, "reviewer"),
        ({"action": "accept", "lease": "lse_'; DROP TABLE"}, "lease"),
    ],
)
async def test_a_verdict_that_makes_no_sense_is_refused_and_changes_nothing(
    http: httpx2.AsyncClient, verdict: Json, word: str
) -> None:
    made = await claim(http)
    answer = await decided(http, await taken(http), **verdict)
    assert answer.status_code == 422 and word in answer.json()["detail"], answer.text
    assert (await shown(http, made["id"]))[1]["review"] is None


async def test_a_coarse_part_takes_a_side(http: httpx2.AsyncClient) -> None:
    made = await claim(http)
    answer = await decided(http, await taken(http), action="correct", part="door", side="left")
    assert answer.status_code == 200, answer.text
    assert (await shown(http, made["id"]))[1]["part"]["side"] == "left"


async def test_a_decision_needs_the_version_it_was_made_on(http: httpx2.AsyncClient) -> None:
    await claim(http)
    case = await taken(http)
    address = f"{case['links']['self']}/decision"
    without = await http.post(address, json={"action": "accept", "lease": case["lease"]})
    assert (without.status_code, without.json()["type"]) == (428, "urn:claimsight:problem:precondition-required")
    strange = await http.post(address, json={"action": "accept"}, headers={"If-Match": "yesterday"})
    assert strange.status_code == 400
    stale = await decided(http, {**case, "version": case["version"] + 7}, action="accept")
    assert stale.status_code == 412


async def test_unknown_findings_are_404_on_every_route(http: httpx2.AsyncClient) -> None:
    tagged = {"If-Match": '"1"'}
    for finding_id in (ids.new("fnd"), "fnd_nothing", "..%2F..%2Fetc"):
        here = f"/v1/reviews/{finding_id}"
        answers = [await http.get(f"{here}{path}") for path in ("", "/history", "/similar", "/crop.webp")]
        answers.append(await http.post(f"{here}/lease", json={}))
        answers.append(await http.post(f"{here}/release", json={"lease": ids.new("lse")}))
        answers.append(await http.post(f"{here}/skip", json={"lease": ids.new("lse")}))
        answers.append(await http.post(f"{here}/decision", json={"action": "accept"}, headers=tagged))
        answers.append(await http.post(f"{here}/undo", json={}, headers=tagged))
        assert {answer.status_code for answer in answers} == {404}
        assert {answer.headers["Content-Type"] for answer in answers} == {"application/problem+json"}


def test_every_route_is_in_openapi_with_examples_that_fit(tmp_path: Path) -> None:
    schema = build_app(settings(tmp_path, "redis://127.0.0.1:1")).openapi()
    paths = {path: methods for path, methods in schema["paths"].items() if path.startswith("/v1/reviews")}
    assert len(paths) == 12
    for path, methods in paths.items():
        for method, operation in methods.items():
            assert operation["description"], f"{method} {path}"
            if "requestBody" in operation:
                name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].split("/")[-1]
                for example in schema["components"]["schemas"][name]["examples"]:
                    getattr(schemas, name).model_validate(example)
