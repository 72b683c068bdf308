"""Presets of one model: learned queries, eq. 2 as printed, a plain ViT with weights from a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from export.albert.blocks import EncoderBlock
from export.albert.data import MASK_SIDE, PartSets, Photos, Sample
from export.albert.losses import Weights, losses, matched
from export.albert.model import OUTPUTS, Albert, Preset
from export.albert.patches import PatchStem
from export.albert.start import start
from export.albert.train import Config
from export.albert.vit_weights import load_vit
from export.config import load_preset
from export.convert.to_onnx import to_onnx
from export.data.toycar import render
from export.labels import load_labels
from export.training import take_step

pytestmark = pytest.mark.train
TINY = Preset(name="test", size=64, stem="lite0", width=32, depth=2, part_depth=1, heads=2, pyramid=16, queries=12)
LEARNED = dataclasses.replace(TINY, query="learned")
PLAIN = dataclasses.replace(TINY, stem="patch")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def toycars() -> Photos:
    """Close-ups of the dent on four toy cars."""
    labels, samples = load_labels(), []
    for seed in (1, 2, 3, 5):
        scene = render(seed, size=MASK_SIDE, damages=["dent", "scratch"])
        dent = next(i for i in scene.instances if i.label == "dent")
        y, x = (int(np.clip(c.mean() - 40, 0, MASK_SIDE - 80)) for c in np.nonzero(dent.mask))
        mask = np.kron(dent.mask[y : y + 80, x : x + 80], np.ones((4, 4), bool))
        samples.append(Sample(scene.pixels[y : y + 80, x : x + 80], [mask], [("dent",)]))
    return Photos(samples, labels, PartSets(labels, "parts18"), torch.device("cpu"))


@pytest.mark.parametrize(
    "preset",
    [LEARNED, dataclasses.replace(TINY, block="paper"), PLAIN],
    ids=["learned queries", "eq. 2 as printed", "plain ViT"],
)
def test_every_option_learns_from_toycars(preset: Preset, toycars: Photos) -> None:
    torch.manual_seed(0)
    model = Albert(preset)
    batch = toycars.batch([0, 1, 2, 3], 64, torch.Generator().manual_seed(0), augment=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    dice = []
    for _ in range(25):
        terms = losses(model, model.encode(batch.photos), batch, Weights())
        take_step(torch.stack(list(terms.values())).sum(), model, optimizer)
        dice.append(terms["dice"].item())
    assert dice[-1] < 0.8 * dice[0]


def test_learned_queries_and_plain_patches_export_with_a_dynamic_batch() -> None:
    photos = torch.randint(0, 255, (8, 64, 64, 3), dtype=torch.uint8)
    assert to_onnx(Albert(dataclasses.replace(LEARNED, stem="patch")), photos, "photo", OUTPUTS, tolerance=1e-2)


def test_learned_queries_are_matched_one_to_one(toycars: Photos) -> None:
    model = Albert(LEARNED)
    batch = toycars.batch([0, 1, 2], 64, torch.Generator().manual_seed(0), augment=False)
    encoded = model.encode(batch.photos)
    instance, query = matched(model, encoded, batch)
    assert len(batch.masks) == 3
    assert sorted(instance.tolist()) == list(range(len(batch.masks))), "every instance has a query"
    taken = list(zip(batch.owner[instance].tolist(), query.tolist(), strict=True))
    assert len(set(taken)) == len(taken), "no query answers for two"
    assert all(torch.isfinite(term) for term in losses(model, encoded, batch, Weights()).values())


def test_eq_2_as_printed_adds_attention_and_mlp_of_the_same_input() -> None:
    block = EncoderBlock(32, 2, 0.0, parallel=True).eval()
    x = torch.randn(2, 5, 32)
    with torch.no_grad():
        wanted = x + block.scale1 * block.attn(block.norm1(x)) + block.scale2 * block.mlp(block.norm2(x))
        assert torch.allclose(block(x), wanted, atol=1e-6)


def test_an_unknown_option_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="preset test: query is 'sparse'; choose one of"):
        Albert(dataclasses.replace(TINY, query="sparse"))


def test_the_presets_of_the_issue_are_there() -> None:
    presets = {name: load_preset(Config, f"albert-{name}").preset for name in ("small", "paper", "learned", "slick")}
    assert (presets["small"].stem, presets["small"].width, presets["small"].depth) == ("patch", 384, 12)
    assert (presets["paper"].width, presets["learned"].query, presets["slick"].focus) == (768, "learned", 64)


def _vit(width: int, patch: int = 14, grid: int = 5) -> dict[str, torch.Tensor]:
    """The entries of a DINOv2 checkpoint, two blocks of it."""
    state = {
        "cls_token": torch.zeros(1, 1, width),
        "pos_embed": torch.randn(1, 1 + grid * grid, width),
        "patch_embed.proj.weight": torch.randn(width, 3, patch, patch),
        "patch_embed.proj.bias": torch.randn(width),
        "norm.weight": torch.full((width,), 2.0),
        "norm.bias": torch.zeros(width),
    }
    for i in range(2):
        block = {
            "norm1.weight": (width,), "norm1.bias": (width,), "norm2.weight": (width,), "norm2.bias": (width,),
            "attn.qkv.weight": (3 * width, width), "attn.qkv.bias": (3 * width,),
            "attn.proj.weight": (width, width), "attn.proj.bias": (width,),
            "ls1.gamma": (width,), "ls2.gamma": (width,),
            "mlp.fc1.weight": (4 * width, width), "mlp.fc1.bias": (4 * width,),
            "mlp.fc2.weight": (width, 4 * width), "mlp.fc2.bias": (width,),
        }  # fmt: skip
        state |= {f"blocks.{i}.{name}": torch.randn(shape) for name, shape in block.items()}
    return state


def test_a_plain_vit_takes_dinov2_weights_from_a_file(tmp_path: Path) -> None:
    state, model = _vit(32), Albert(PLAIN)
    save_file(state, tmp_path / "vit.safetensors")
    start(model, imagenet=tmp_path / "vit.safetensors", run=None, classifier=None)
    own = model.state_dict()
    assert torch.equal(own["blocks.1.mlp.2.weight"], state["blocks.1.mlp.fc2.weight"])
    assert torch.equal(own["blocks.0.scale1"], state["blocks.0.ls1.gamma"])
    assert torch.equal(own["norm.weight"], state["norm.weight"])
    assert own["position"].shape == (1, 16, 32)
    assert own["stem.patch.weight"].shape == (32, 3, 16, 16)


@pytest.mark.parametrize("width", [48, 64])
def test_weights_of_another_width_are_refused_naming_file_and_entry(tmp_path: Path, width: int) -> None:
    save_file(_vit(width), tmp_path / "vit.safetensors")
    with pytest.raises(ValueError, match=rf"vit\.safetensors: not weights of this preset: .* is .*{width}"):
        load_vit(Albert(PLAIN), tmp_path / "vit.safetensors")


def test_a_plain_vit_without_weights_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match="--weights"):
        start(Albert(PLAIN), imagenet=None, run=None, classifier=None)


def test_pixels_reach_a_vit_as_it_was_trained() -> None:
    stem = Albert(PLAIN).stem
    assert isinstance(stem, PatchStem)
    x = torch.from_numpy(np.full((1, 3, 64, 64), (200 - 127) / 128, np.float32))
    seen = x * stem.gain + stem.shift
    assert float(seen[0, 0, 0, 0]) == pytest.approx((200 / 255 - 0.485) / 0.229, abs=1e-4)
