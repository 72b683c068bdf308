"""Generated pictures through the whole gateway: made, marked, shown, and known again when they come back as photos."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image
from structlog.testing import capture_logs

from services.common.serving.errors import NotFound, NotReady, Problem
from services.common.serving.generation import Ask, GeneratorModel, Progress
from services.common.serving.generator_client import HttpGenerator
from services.gateway.app import build_app
from services.gateway.assessment.clients import Clients
from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.pictures import RED, photo
from tests.unit.gateway.running import client, settings
from tests.unit.generator.tiny import QUICK, car, encoded, generator, make

pytest.importorskip("diffusers")
pytest.importorskip("c2pa")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make(tmp_path_factory.mktemp("generator"))


@asynccontextmanager
async def gateway(folder: Path, redis_url: str, drawing: Any, **changes: object) -> AsyncIterator[httpx2.AsyncClient]:
    fakes = Fakes()
    clients = Clients(fakes.segmenter, fakes.classifier, fakes.retrieval, drawing)
    app = build_app(settings(folder, redis_url, **changes), clients, worker=True)
    async with app.router.lifespan_context(app), client(app) as http:
        http.app = app  # type: ignore[attr-defined]
        yield http


@pytest.fixture
async def http(tmp_path: Path, redis_url: str, model: Any) -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        generator(model) as inside,
        gateway(tmp_path, redis_url, HttpGenerator(inside), training_url=str(tmp_path / "training")) as made,
    ):
        yield made


async def ended(http: httpx2.AsyncClient, url: str) -> dict[str, Any]:
    while True:
        state: dict[str, Any] = (await http.get(url)).json()
        if state["status"] not in ("queued", "processing"):
            return state
        await asyncio.sleep(0.05)


async def drawn(http: httpx2.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await http.post("/v1/generations", json=QUICK | changes)
    assert answer.status_code == 202, answer.text
    state = await ended(http, answer.headers["location"])
    assert state["status"] == "succeeded", state
    return state


async def png(http: httpx2.AsyncClient, state: dict[str, Any]) -> bytes:
    answer = await http.get(state["images"][0]["links"]["self"])
    assert answer.status_code == 200
    return answer.content


def jpeg(data: bytes) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").save(file, "JPEG", quality=70)
    return file.getvalue()


async def claim(http: httpx2.AsyncClient, *photos: bytes) -> dict[str, Any]:
    files = [("photos", ("car.jpg", data, "image/jpeg")) for data in photos]
    answer = await http.post("/v1/claims", files=files)
    assert answer.status_code == 202, answer.text
    return await ended(http, answer.headers["location"])


async def test_a_generation_is_a_job_like_a_claim_and_leaves_an_audit_line(http: httpx2.AsyncClient) -> None:
    with capture_logs() as lines:
        state = await drawn(http, prompts=["a dent on a hood", "a scratch"], damage="dent", part="hood")
    assert state["object"] == "generation"
    assert state["progress"] == {"done": 6, "total": 6}
    assert [image["seed"] for image in state["images"]] == [7, 8]
    assert (state["images"][0]["damage"], state["images"][0]["part"]) == ("dent", "hood")
    (audit,) = [line for line in lines if line["event"] == "audit: pictures generated"]
    assert audit["prompts"] == ["a dent on a hood", "a scratch"]
    assert audit["tenant"] == "default"
    assert audit["model"]["base_sha256"] == state["model"]["base_sha256"]
    assert audit["images"] == [image["sha256"] for image in state["images"]]
    listed = (await http.get("/v1/generations")).json()
    assert [each["id"] for each in listed["data"]] == [state["id"]]


async def test_our_own_picture_is_refused_at_upload_and_recognised_when_it_was_changed(
    http: httpx2.AsyncClient,
) -> None:
    made = await png(http, await drawn(http))
    refused = await http.post("/v1/claims", files={"photos": ("car.jpg", made, "image/jpeg")})
    assert refused.status_code == 422
    assert refused.json()["type"].endswith(":generated")
    done = await claim(http, photo(RED), jpeg(made), made)
    assert [each["status"] for each in done["photos"]] == ["succeeded", "rejected", "rejected"]
    assert all(each["error"]["type"].endswith(":generated") for each in done["photos"][1:])
    assert (done["partial"], done["summary"]["route"]) == (True, "review")
    assert "photo_generated" in {reason["code"] for reason in done["summary"]["reasons"]}
    alone = await claim(http, jpeg(made))
    assert (alone["status"], alone["error"]["type"].rpartition(":")[2]) == ("failed", "generated")


async def test_a_painted_picture_comes_with_its_clean_pair_and_mask_and_the_real_photo_stays_welcome(
    http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    clean, mask = car(), np.zeros((96, 128), np.uint8)
    clean = np.asarray(Image.fromarray(clean).resize((8, 6)).resize((128, 96), Image.Resampling.BICUBIC), np.uint8)
    mask[20:70, 30:90] = 255
    ask = {"photo": encoded(clean), "mask": encoded(mask)}
    state = await drawn(http, inpaint=ask, damage="dent", part="hood", unmarked=True)
    pair = {name: (await http.get(state["links"][name])).content for name in ("clean", "mask")}
    made = await png(http, state)
    after, before = (np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in (made, pair["clean"]))
    painted = np.asarray(Image.open(io.BytesIO(pair["mask"])).convert("L")) > 127
    assert (before == clean).all()
    assert not (after != before).any(-1)[~painted].any()
    done = await claim(http, jpeg(made), jpeg(pair["clean"]))
    assert [each["status"] for each in done["photos"]] == ["rejected", "succeeded"]
    next((tmp_path / "store").rglob(state["id"])).unlink()
    assert (await http.get(state["links"]["clean"])).status_code == 404


async def test_unmarked_pictures_lie_in_a_store_of_their_own_or_are_not_made(
    http: httpx2.AsyncClient, tmp_path: Path, redis_url: str, model: Any
) -> None:
    state = await drawn(http, unmarked=True)
    name = state["images"][0]["id"]
    assert list((tmp_path / "training").rglob(name))
    assert not list((tmp_path / "store").rglob(name))
    async with generator(model) as inside, gateway(tmp_path / "b", redis_url, HttpGenerator(inside)) as without:
        refused = await without.post("/v1/generations", json=QUICK | {"unmarked": True})
    assert refused.status_code == 422
    assert "CLAIMSIGHT_GATEWAY_TRAINING_URL" in refused.json()["detail"]


async def test_cancelling_ends_it_and_a_finished_one_cannot_be_canceled(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/v1/generations", json=QUICK | {"steps": 100, "prompts": ["a dent"] * 4})
    url = answer.headers["location"]
    assert (await http.post(f"{url}/cancel")).json()["status"] == "canceled"
    state = await drawn(http)  # the device is free again
    assert (await http.get(url)).json()["images"] == []
    late = await http.post(f"/v1/generations/{state['id']}/cancel")
    assert late.status_code == 409


async def test_a_canceled_one_leaves_its_place_to_another(tmp_path: Path, redis_url: str, model: Any) -> None:
    long = QUICK | {"steps": 100, "prompts": ["a dent"] * 4}
    async with (
        generator(model) as inside,
        gateway(tmp_path, redis_url, HttpGenerator(inside), max_generations=2) as http,
    ):
        _, waiting = [await http.post("/v1/generations", json=long) for _ in range(2)]
        assert (await http.post("/v1/generations", json=long)).status_code == 503
        await http.post(f"{waiting.headers['location']}/cancel")
        assert (await http.post("/v1/generations", json=long)).status_code == 202


async def test_another_tenants_generation_is_as_unknown_as_one_that_never_was(http: httpx2.AsyncClient) -> None:
    store = http.app.state.runtime.generations  # type: ignore[attr-defined]
    theirs = "gen_01M7YXRDS94GYE754JKJY830YH"
    await store.accept(theirs, tenant="other", key_id=None, ask={"prompts": ["x"], "inpaint": None}, total=1)
    answers = [await http.get(f"/v1/generations/{name}") for name in (theirs, theirs[:-1] + "X", "nonsense")]
    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert len({answer.json()["detail"] for answer in answers}) == 1


async def test_without_a_generator_the_api_says_that_generation_is_off(tmp_path: Path, redis_url: str) -> None:
    async with gateway(tmp_path, redis_url, None) as http:
        answer = await http.post("/v1/generations", json=QUICK)
        assert answer.status_code == 503
        assert "CLAIMSIGHT_GATEWAY_GENERATOR_URL" in answer.json()["detail"]
        assert (await http.get("/health/ready")).status_code == 200


async def test_what_is_refused_is_refused_before_anything_is_queued(http: httpx2.AsyncClient) -> None:
    for prompts, says in ((["Angela Merkel in a dented car"], "person"), (["dent " * 30], "tokens")):
        answer = await http.post("/v1/generations", json=QUICK | {"prompts": prompts})
        assert (answer.status_code, says in answer.json()["detail"]) == (422, True)
    assert (await http.get("/v1/generations")).json()["data"] == []


class Dying(HttpGenerator):
    """A generator that is gone whenever somebody asks how far it is."""

    def __init__(self, problem: Problem) -> None:
        self._problem, self.starts = problem, 0

    async def check(self, ask: Ask) -> None:
        pass

    async def start(self, generation_id: str, ask: Ask) -> Progress:
        self.starts += 1
        model = GeneratorModel(kind="x", base_sha256="0", device="cpu", precision="fp32")
        return Progress(id=generation_id, status="running", done=1, total=3, model=model)

    async def progress(self, generation_id: str, *, seen: int, wait_s: float) -> Progress:
        raise self._problem

    async def cancel(self, generation_id: str) -> None:
        pass


@pytest.mark.parametrize("problem", [NotFound("restarted"), NotReady("connection broke")])
async def test_a_generation_that_kills_every_generator_ends_failed_with_a_reason(
    tmp_path: Path, redis_url: str, problem: Problem
) -> None:
    dying = Dying(problem)
    async with gateway(tmp_path, redis_url, dying) as http:
        answer = await http.post("/v1/generations", json=QUICK)
        state = await ended(http, answer.headers["location"])
    assert state["status"] == "failed"
    assert "broke off 3 times" in state["error"]["detail"]
    assert dying.starts == 3
