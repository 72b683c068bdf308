"""The generator with a real (tiny) SDXL pipeline: what it draws, marks, refuses, and how it stops."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from services.common.vision.synthetic import COMPOSITE_TYPE, SOURCE_TYPE
from tests.unit.generator.tiny import QUICK, car, encoded, finished, generator, make

pytest.importorskip("diffusers")
c2pa = pytest.importorskip("c2pa")

from services.generator.settings import Settings  # noqa: E402


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return make(tmp_path_factory.mktemp("generator"))


def pixels(png: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


async def drawn(http: httpx2.AsyncClient, name: str, **changes: Any) -> list[bytes]:
    answer = await http.put(f"/v1/generations/{name}", json=QUICK | changes)
    assert answer.status_code == 202, answer.text
    state = await finished(http, name)
    assert state["status"] == "succeeded", state
    assert state["done"] == state["total"]
    count = len(state["images"])
    return [(await http.get(f"/v1/generations/{name}/images/{n}")).content for n in range(count)]


async def test_the_same_words_and_seed_give_the_same_picture_and_each_prompt_gets_its_own(settings: Settings) -> None:
    async with generator(settings) as http:
        one, two = await drawn(http, "a", prompts=["a dent", "a dent"])
        (again,) = await drawn(http, "b", prompts=["a dent"])
    assert (pixels(one) == pixels(again)).all()
    assert (pixels(one) != pixels(two)).any()


async def test_every_picture_is_signed_says_so_in_xmp_and_shows_its_mark(settings: Settings) -> None:
    async with generator(settings) as http:
        (marked,) = await drawn(http, "a")
        (plain,) = await drawn(http, "b", unmarked=True)
        model = (await http.get("/v1/info")).json()
    for png in (marked, plain):
        root = (settings.signing or Path()) / "root.pem"
        context = c2pa.Context.from_dict(
            {"trust": {"user_anchors": root.read_text()}, "verify": {"verify_trust": True}}
        )
        with c2pa.Reader("image/png", io.BytesIO(png), context=context) as reader:
            manifest = json.loads(reader.json())
            state = reader.get_validation_state()
        assert state == "Trusted", manifest.get("validation_results")
        active = manifest["manifests"][manifest["active_manifest"]]
        text = json.dumps(active)
        assert SOURCE_TYPE in text
        assert model["base_sha256"] in text
        assert QUICK["prompts"][0] in text
        assert SOURCE_TYPE in Image.open(io.BytesIO(png)).info["XML:com.adobe.xmp"]
    changed = (pixels(marked) != pixels(plain)).any(-1)
    assert changed[-4:, -20:].any()
    assert not changed[: 64 // 2].any()


async def test_a_changed_picture_no_longer_verifies(settings: Settings) -> None:
    async with generator(settings) as http:
        (png,) = await drawn(http, "a")
    broken = bytearray(png)
    broken[-40] ^= 1
    with c2pa.Reader("image/png", io.BytesIO(bytes(broken))) as reader:
        assert reader.get_validation_state() == "Invalid"


async def test_painting_changes_the_masks_pixels_and_no_other(settings: Settings) -> None:
    photo, mask = car(), np.zeros((96, 128), np.uint8)
    mask[30:60, 40:80] = 255
    ask = {"photo": encoded(photo), "mask": encoded(mask)}
    async with generator(settings) as http:
        (png,) = await drawn(http, "a", inpaint=ask, damage="dent", part="hood", unmarked=True)
    changed = (pixels(png) != photo).any(-1)
    assert not changed[mask == 0].any()
    assert changed[mask > 0].mean() > 0.9
    assert COMPOSITE_TYPE in Image.open(io.BytesIO(png)).info["XML:com.adobe.xmp"]


async def test_cancelling_stops_within_one_denoising_step(settings: Settings) -> None:
    async with generator(settings) as http:
        await http.put("/v1/generations/a", json=QUICK | {"steps": 100})
        await http.get("/v1/generations/a", params={"seen": 0, "wait": 10})
        at = (await http.delete("/v1/generations/a")).json()["done"]
        state = await finished(http, "a")
        assert state["status"] == "canceled"
        assert at <= state["done"] <= at + 1
        assert state["images"] == []
        await drawn(http, "b")  # and the next one is drawn


async def test_one_generation_at_a_time_and_the_same_id_again_is_the_same_generation(settings: Settings) -> None:
    async with generator(settings) as http:
        await http.put("/v1/generations/a", json=QUICK | {"steps": 100})
        busy = await http.put("/v1/generations/b", json=QUICK)
        assert (busy.status_code, busy.headers["retry-after"]) == (503, "2")
        again = await http.put("/v1/generations/a", json=QUICK | {"steps": 100})
        assert again.status_code == 202
        assert again.json()["id"] == "a"
        await http.delete("/v1/generations/a")
        assert (await http.get("/v1/generations/nobody")).status_code == 404


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prompts": []}, "at least 1"),
        ({"prompts": ["  "]}, "empty"),
        ({"prompts": ["dent " * 100]}, "300 characters"),
        ({"prompts": ["dent " * 30]}, "tokens"),
        ({"prompts": ["John Smith beside his dented car"]}, "person"),
        ({"prompts": ["a dented car with license plate AB 123 CD"]}, "plate"),
        ({"width": 65}, "multiple of 8"),
        ({"width": 4096}, "less than or equal to 1536"),
        ({"steps": 0}, "greater than or equal to 1"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"damage": "../etc"}, "pattern"),
        ({"surprise": 1}, "Extra inputs"),
        ({"inpaint": {"photo": "AAAA", "mask": "AAAA"}}, "damage and part"),
    ],
)
async def test_what_cannot_be_drawn_is_refused_before_the_model_works(
    settings: Settings, changes: dict[str, Any], says: str
) -> None:
    async with generator(settings) as http:
        for answer in (
            await http.post("/v1/check", json=QUICK | changes),
            await http.put("/v1/generations/a", json=QUICK | changes),
        ):
            assert answer.status_code == 422
            assert says in answer.text
        assert (await http.get("/v1/generations/a")).status_code == 404


@pytest.mark.parametrize(
    ("photo", "mask", "says"),
    [
        (b"no photo", None, "Send JPEG"),
        (None, np.full((10, 10), 255, np.uint8), "96"),
        (None, np.zeros((96, 128), np.uint8), "black"),
        (None, b"\x89PNG\r\n\x1a\nbroken", "damaged"),
        (None, b"GIF89a", "no PNG"),
    ],
)
async def test_a_photo_and_mask_that_do_not_fit_are_refused(
    settings: Settings, photo: bytes | None, mask: Any, says: str
) -> None:
    ask = {
        "photo": encoded(car()) if photo is None else base64.b64encode(photo).decode(),
        "mask": base64.b64encode(mask).decode()
        if isinstance(mask, bytes)
        else encoded(car() if mask is None else mask),
    }
    async with generator(settings) as http:
        answer = await http.post("/v1/check", json=QUICK | {"inpaint": ask, "damage": "dent", "part": "hood"})
    assert answer.status_code == 422
    assert says in answer.json()["detail"]


@pytest.mark.parametrize("what", ["base", "lora", "key"])
async def test_a_model_or_key_that_does_not_fit_is_named_and_nothing_is_served(
    settings: Settings, tmp_path: Path, what: str
) -> None:
    from export.hers import lora  # noqa: PLC0415
    from export.hers.merge import LowRank  # noqa: PLC0415

    torch = pytest.importorskip("torch")
    changes: dict[str, Path] = {"base_model": tmp_path / "missing"}
    if what == "lora":
        lora.write(tmp_path, {"x": LowRank(torch.ones(1, 2), torch.ones(2, 1), 1.0)}, base="f" * 64)
        changes = {"lora": tmp_path}
    elif what == "key":
        changes = {"signing": tmp_path}
    async with generator(settings.model_copy(update=changes)) as http:
        ready, asked = await http.get("/health/ready"), await http.put("/v1/generations/a", json=QUICK)
    assert ready.status_code == asked.status_code == 503
    assert ready.json()["state"] == "failed"
    words = {"base": "model_index.json", "lora": "another base", "key": "services.generator.keys"}
    assert words[what] in ready.json()["detail"]
    assert asked.json()["detail"] == ready.json()["detail"]


async def test_a_fused_lora_changes_the_picture_and_not_the_graph(settings: Settings, tmp_path: Path) -> None:
    from export.hers import lora  # noqa: PLC0415
    from export.hers.experts import Config, add_lora  # noqa: PLC0415
    from export.hers.pipeline import open_base  # noqa: PLC0415
    from services.common.serving.diffusion import base_sha256  # noqa: PLC0415
    from services.generator.engine import Engine  # noqa: PLC0415

    torch = pytest.importorskip("torch")
    base = settings.base_model or Path()
    unet = open_base(str(base)).unet
    for parameter in add_lora(unet, Config(rank=2, alpha=2.0)):
        torch.nn.init.normal_(parameter, std=0.3)
    lora.write(tmp_path, lora.of_unet(unet), base=base_sha256(base))
    plain = Engine(settings)
    fused = await asyncio.to_thread(Engine, settings.model_copy(update={"lora": tmp_path}))
    shapes = [{k: tuple(v.shape) for k, v in e._pipe.unet.state_dict().items()} for e in (plain, fused)]
    assert shapes[0] == shapes[1]
    assert fused.model.lora_sha256 is not None
    from services.common.serving.generation import Ask  # noqa: PLC0415

    ask = Ask.model_validate(QUICK)
    assert (plain.draw(ask, 0, lambda: None) != fused.draw(ask, 0, lambda: None)).any()
