"""Stages 2 to 5 on a real, tiny SDXL pipeline: pairs, experts, merge, evaluation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from export.hers import lora
from export.hers.denoise import encode
from export.hers.evaluate import held_out, merges, pictures, report
from export.hers.experts import Config, add_lora, choose, loss_score, train_expert
from export.hers.fuse import default_weights, fuse
from export.hers.grammar import Prompt
from export.hers.judge import Verdict, open_judge
from export.hers.merge import MergeError
from export.hers.pairs import make_pairs, read_pairs, render, summary
from export.hers.pipeline import open_base, with_lora
from export.hers.retention import fixed_loss, loss_with, table
from export.hers.tiny import make_tiny
from services.common.serving.diffusion import BaseModelError, base_sha256
from services.common.vision.synthetic import SOURCE_TYPE
from tests.export.hers.conftest import PROMPTS, SIZE

QUICK = Config(
    rank=4, alpha=8.0, learning_rate=5e-3, batch=2, accumulate=1, steps=8, checkpoint_every=4, resolution=SIZE,
    precision="fp32",
)  # fmt: skip


def pixels(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB"), np.uint8)


@pytest.fixture(scope="module")
def experts(pipe: Any, base: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, found = tmp_path_factory.mktemp("experts"), {}
    for domain in ("typical", "scene", "implausible"):
        mine = [(path, prompt) for path, prompt, _ in read_pairs(pairs) if prompt.domain == domain]
        data = encode(pipe, [pixels(path) for path, _ in mine], [p.text for _, p in mine], SIZE)
        found[domain] = train_expert(pipe, data, folder / domain, QUICK, base=base_sha256(base), name=domain)
    return found


def test_a_picture_is_the_same_for_the_same_prompt_and_seed(pipe: Any) -> None:
    one, two, other = (render(pipe, ["a dent"], [seed], steps=2, size=SIZE)[0] for seed in (1, 1, 2))
    assert (one == two).all()
    assert (one != other).any()


def test_pairs_go_on_where_a_killed_run_stopped_and_carry_their_origin(pipe: Any, tmp_path: Path) -> None:
    make_pairs(pipe, PROMPTS[:2], tmp_path, None, steps=1, size=SIZE)
    rows = tmp_path / "pairs-0.jsonl"
    rows.write_text(rows.read_text()[:-20] + "\n")  # the second row was cut off
    judge = lambda photo, prompt: Verdict(0.5, 0.0, 1)  # noqa: E731
    assert make_pairs(pipe, PROMPTS[:4], tmp_path, judge, steps=1, size=SIZE) == 3
    assert [prompt for _, prompt, _ in read_pairs(tmp_path)] == PROMPTS[:4]
    assert len(read_pairs(tmp_path, least=0.5)) == 3
    assert summary(tmp_path)[2:] == ["| typical | 2 | 0.500 | 0.000 |", "| scene | 1 | 0.500 | 0.000 |"]
    path = read_pairs(tmp_path)[0][0]
    assert SOURCE_TYPE in Image.open(path).info["XML:com.adobe.xmp"]


def test_our_own_models_judge_a_rendered_car() -> None:
    from export.data.toycar import render as toycar  # noqa: PLC0415

    scene = toycar(3, size=256, damages=["dent"], fakes=[])
    verdict = open_judge("packs")(scene.pixels, Prompt("a dent", "typical", "dent", scene.instances[0].part))
    assert 0 <= verdict.target <= 1
    assert 0 <= verdict.off_target <= 1


def test_all_experts_start_from_one_a_and_leave_the_base_as_it_was(pipe: Any) -> None:
    names, starts = [name for name, _ in pipe.unet.named_modules()], []
    for _ in range(2):
        add_lora(pipe.unet, QUICK)
        starts.append(lora.of_unet(pipe.unet))
        pipe.unet.unload_lora()
    assert all(torch.equal(starts[0][name].down, part.down) for name, part in starts[1].items())
    assert all(not part.up.any() for part in starts[0].values())
    assert [name for name, _ in pipe.unet.named_modules()] == names


def test_an_expert_learns_its_slice(pipe: Any, pairs: Path, experts: dict[str, Path]) -> None:
    data, _ = held_out(pipe, pairs, SIZE, every=1)
    for domain, folder in experts.items():
        assert loss_with(pipe, data[domain], folder) < fixed_loss(pipe, data[domain])


def test_a_killed_run_that_goes_on_ends_with_the_same_weights(
    pipe: Any, base: Path, pairs: Path, tmp_path: Path
) -> None:
    data = held_out(pipe, pairs, SIZE, every=1)[0]["typical"]
    sha = base_sha256(base)
    whole = train_expert(pipe, data, tmp_path / "whole", QUICK, base=sha)
    # Killed after step 4: what lies on the disk then is that step's state and nothing newer.
    part = train_expert(pipe, data, tmp_path / "part", replace(QUICK, steps=4), base=sha)
    state = torch.load(part / "checkpoint.pt", weights_only=True)
    state["config"]["steps"] = QUICK.steps
    torch.save(state, part / "checkpoint.pt")
    train_expert(pipe, data, part, QUICK, base=sha)
    one, two = lora.read(whole), lora.read(part)
    assert all(torch.equal(one[name].up, two[name].up) and torch.equal(one[name].down, two[name].down) for name in one)


def test_the_checkpoint_is_chosen_by_its_alignment(pipe: Any, pairs: Path, experts: dict[str, Path]) -> None:
    scores = {"step-4": 0.9, "step-8": 0.1}
    folder = choose(experts["typical"], lambda path: scores[path.name])
    assert (folder / lora.LORA_FILE).read_bytes() == (folder / "step-4" / lora.LORA_FILE).read_bytes()
    data = held_out(pipe, pairs, SIZE, every=1)[0]["typical"]
    by_loss = loss_score(pipe, data, QUICK)
    (folder / "alignment.json").unlink()
    assert (choose(folder, by_loss) / lora.LORA_FILE).read_bytes() == (folder / "step-8" / lora.LORA_FILE).read_bytes()


def test_a_fused_merge_is_the_base_models_graph_and_draws_what_the_adapter_draws(
    pipe: Any, base: Path, experts: dict[str, Path], tmp_path: Path
) -> None:
    weights = default_weights(list(experts), "training")
    assert weights == [1, 1, 0]
    found = fuse(list(experts.values()), tmp_path, base=base, weights=weights)
    assert found.relative_error < 1e-6
    assert found.rank == 2 * QUICK.rank
    shapes = {name: tuple(value.shape) for name, value in pipe.unet.state_dict().items()}
    pipe.load_lora_weights(str(tmp_path), adapter_name="on")
    beside = render(pipe, ["a dent"], [0], steps=2, size=SIZE)[0].astype(int)
    pipe.unload_lora_weights()
    plain = render(pipe, ["a dent"], [0], steps=2, size=SIZE)[0].astype(int)
    fused = with_lora(open_base(str(base)), tmp_path)
    assert {name: tuple(value.shape) for name, value in fused.unet.state_dict().items()} == shapes
    assert [type(m) for m in fused.unet.modules()] == [type(m) for m in pipe.unet.modules()]
    drawn = render(fused, ["a dent"], [0], steps=2, size=SIZE)[0].astype(int)
    assert np.abs(drawn - beside).max() <= 1
    assert np.abs(drawn - plain).max() > 1


def test_a_lora_of_another_base_is_refused(experts: dict[str, Path], tmp_path: Path) -> None:
    other = make_tiny(tmp_path / "other", seed=1)
    with pytest.raises(MergeError, match="another base"):
        fuse(list(experts.values()), tmp_path / "out", base=other, weights=[1, 1, 1])


def test_the_report_shows_merges_retention_and_pictures_at_the_same_seeds(
    pipe: Any, base: Path, pairs: Path, experts: dict[str, Path], tmp_path: Path
) -> None:
    algebra = merges(experts, base, tmp_path, "paper")
    assert algebra["mean"]["relative_error"] < 1e-6 < algebra["product"]["relative_error"]
    data, prompts = held_out(pipe, pairs, SIZE, every=3)
    retention = table(pipe, data, experts, {"mean": tmp_path / "mean"})
    assert set(retention["scene"]) >= {"base", "scene expert", "mean", "mean retention"}
    made = pictures(pipe, {"base": None, "mean": tmp_path / "mean"}, prompts[:1], steps=1, size=SIZE)
    assert (made["base"][0] != made["mean"][0]).any()
    text = report(algebra, retention, {"base": {"packs": 0.25}}, None)
    assert "| scene |" in text
    assert json.loads((tmp_path / "svd" / "merge.json").read_text())["method"] == "svd"


def test_stable_diffusion_15_is_a_second_backbone(tmp_path: Path) -> None:
    base = make_tiny(tmp_path / "sd15", "sd15")
    pipe = open_base(str(base))
    photos = render(pipe, ["a dent", "a scratch"], [0, 1], steps=1, size=SIZE)
    data = encode(pipe, photos, ["a dent", "a scratch"], SIZE)
    assert data.pooled is None
    folder = train_expert(pipe, data, tmp_path / "expert", replace(QUICK, steps=1), base=base_sha256(base))
    assert loss_with(pipe, data, folder) != fixed_loss(pipe, data)


@pytest.mark.parametrize("wrong", ["pickle", "foreign code", "no index"])
def test_a_folder_that_could_run_code_is_never_loaded(base: Path, tmp_path: Path, wrong: str) -> None:
    index = json.loads((base / "model_index.json").read_text())
    (tmp_path / "unet").mkdir()
    if wrong == "pickle":
        (tmp_path / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04.")
    else:
        (tmp_path / "unet" / "a.safetensors").write_bytes(b"")
        index["unet"] = ["os", "system"]
    if wrong != "no index":
        (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(BaseModelError):
        open_base(str(tmp_path))
