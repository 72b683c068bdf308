"""The segmenter's model, losses, augmentation and export keep their promises."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from export.albert.data import MASK_SIDE, PartSets, Photos, Sample, affine
from export.albert.losses import Weights, assign, losses
from export.albert.model import OUTPUTS, Albert, Preset
from export.albert.position import resized
from export.albert.runs import load_run
from export.albert.start import start
from export.albert.train import Config, train
from export.convert.to_onnx import ParityError, to_onnx
from export.cropresmoe.model import CropResMoE
from export.efficientnet_lite import EfficientNetLite, SameConv, load_imagenet
from export.labels import load_labels

pytestmark = pytest.mark.train
TINY = Preset(name="test", size=64, stem="lite0", width=32, depth=2, part_depth=1, heads=2, pyramid=16, queries=10)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _square(x: int, y: int, side: int = 80) -> np.ndarray:
    mask = np.zeros((MASK_SIDE, MASK_SIDE), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def _photos(samples: list[Sample]) -> Photos:
    labels = load_labels()
    return Photos(samples, labels, PartSets(labels, "parts18"), torch.device("cpu"))


def _samples() -> list[Sample]:
    grey = np.full((96, 96, 3), 120, np.uint8)
    doors = np.zeros((MASK_SIDE, MASK_SIDE), np.uint8)
    sets = PartSets(load_labels(), "parts18")
    doors[:, :160] = sets.index["front_left_door"]
    return [
        Sample(grey, [_square(40, 40), _square(200, 160)], [("dent",), ("missingpart", "torn", "detached")]),
        Sample(grey, [], [], doors),
    ]


def test_a_flip_turns_left_parts_into_right_ones() -> None:
    sets = PartSets(load_labels(), "parts18")
    left, right = sets.index["front_left_door"], sets.index["front_right_door"]
    assert sets.mirror[left] == right
    assert sets.mirror[right] == left
    assert sets.mirror[sets.index["wheel"]] == sets.index["wheel"]
    photos, rng = _photos(_samples()), torch.Generator().manual_seed(0)
    seen = {int(v) for _ in range(12) for v in photos.batch([1], 64, rng, augment=True).part_map.flatten()}
    assert {left, right} <= seen


def test_unlabelled_parts_and_background_share_a_row_that_excludes_labelled_parts() -> None:
    labels = load_labels()
    sets, ids = PartSets(labels, "parts18"), labels.part_ids()
    assert sets.rows[0, 0]
    assert sets.rows[0, ids["roof"]]
    assert not sets.rows[0, ids["hood"]]
    assert int(sets.rows[sets.index["wheel"]].sum()) == 8


def test_without_augmentation_a_photo_stays_as_it_is() -> None:
    theta, flip = affine(3, torch.Generator(), augment=False)
    assert torch.equal(theta, torch.eye(2, 3).expand(3, 2, 3))
    assert not flip.any()


def test_small_instances_win_the_tokens_they_share() -> None:
    batch = _photos(
        [Sample(np.zeros((64, 64, 3), np.uint8), [_square(0, 0, 320), _square(130, 130, 60)], [("dent",)] * 2)]
    )
    instance, token = assign(batch.batch([0], 64, torch.Generator(), augment=False), side=4)
    assert len(set(token.tolist())) == len(token), "one token answers for one instance"
    assert set(instance.tolist()) == {0, 1}


def test_a_photo_labelled_only_for_damages_never_trains_parts() -> None:
    photos = _photos(_samples()[:1])
    model = Albert(TINY)
    batch = photos.batch([0], 64, torch.Generator().manual_seed(0), augment=False)
    torch.autograd.backward([losses(model, model.encode(batch.photos), batch, Weights())["part"]])
    grads = [p.grad for n, p in model.named_parameters() if n.startswith(("part_features", "part_filters"))]
    assert all(g is None or not g.any() for g in grads)


def test_any_of_the_names_that_a_coarse_label_allows_satisfies_the_loss() -> None:
    photos, labels = _photos(_samples()[:1]), load_labels()
    batch = photos.batch([0], 64, torch.Generator().manual_seed(0), augment=False)
    ids = labels.damage_ids()
    allowed = {n for n, i in ids.items() if batch.damage_targets[1, i - 1]}
    assert allowed == {"missingpart", "torn", "detached"}


@pytest.mark.parametrize(("stride", "side"), [(1, 14), (2, 14), (2, 15)])
def test_wide_depthwise_kernels_train_in_fp32_beside_bf16_neighbours(stride: int, side: int) -> None:
    torch.manual_seed(0)
    conv = SameConv(8, 8, 5, stride, groups=8, bias=False)
    x = torch.randn(2, 8, side, side).to(torch.bfloat16)
    exact = conv(x.float())
    (expected,) = torch.autograd.grad(exact.sum(), [conv.weight])
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(x)
    (gradient,) = torch.autograd.grad(out.float().sum(), [conv.weight])
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, exact.to(torch.bfloat16))
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-3)  # bf16 would be 0.01 off


def test_the_exported_graph_has_a_dynamic_batch_and_the_promised_outputs() -> None:
    model = Albert(TINY).eval()
    photos = torch.randint(0, 255, (8, 64, 64, 3), dtype=torch.uint8)
    assert len(to_onnx(model, photos, "photo", OUTPUTS, tolerance=1e-2)) > 1_000_000
    shapes = {n: tuple(v.shape) for n, v in zip(OUTPUTS, model(photos[:3]), strict=True)}
    assert shapes["mask_logits"] == (3, 10, 16, 16)
    assert shapes["damage_logits"] == (3, 10, 26)
    assert shapes["part_logits"] == (3, 62, 8, 8)


def test_a_graph_that_computes_something_else_is_refused() -> None:
    class Moody(torch.nn.Module):
        calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return x.float() * (1.0 if self.calls < 3 or torch.compiler.is_exporting() else 2.0)

    with pytest.raises(ParityError, match="largest difference"):
        to_onnx(Moody(), torch.ones(8, 4), "x", ("y",))


def test_training_resumes_where_it_stopped_and_refuses_another_configuration(tmp_path: Path) -> None:
    photos, shares = _photos(_samples()), torch.ones(2)
    config = Config(preset=TINY, epochs=1, batch=2, frozen=0)
    train(config, photos, shares, tmp_path, Albert(TINY))
    more = Config(preset=TINY, epochs=2, batch=2, frozen=0)
    train(more, photos, shares, tmp_path, Albert(TINY))
    assert (tmp_path / "log.jsonl").read_text().count("\n") == 2, "one epoch each, not three"
    model, _ = load_run(tmp_path, size=96)
    assert model.position.shape[1] == 36
    with pytest.raises(ValueError, match="another lr"):
        train(Config(preset=TINY, epochs=2, batch=2, frozen=0, lr=1.0), photos, shares, tmp_path, Albert(TINY))


def test_training_can_start_from_a_run_and_from_a_classifiers_backbone(tmp_path: Path) -> None:
    first, twin = Albert(TINY), CropResMoE("lite0", 2)
    assert isinstance(first.stem, EfficientNetLite)
    load_imagenet(first.stem)
    (tmp_path / "run").mkdir()
    (tmp_path / "cls").mkdir()
    torch.save({"averaged": first.state_dict()}, tmp_path / "run" / "checkpoint.pt")
    torch.save({"averaged": twin.state_dict()}, tmp_path / "cls" / "checkpoint.pt")
    model = Albert(TINY)
    start(model, imagenet=None, run=tmp_path / "run", classifier=tmp_path / "cls")
    assert torch.equal(model.position, first.position)
    name = "_conv_stem.weight"
    middle = (first.stem.state_dict()[name] + twin.backbone.state_dict()[name]) / 2
    assert torch.allclose(model.stem.state_dict()[name], middle)
    larger = Albert(dataclasses.replace(TINY, size=96))
    start(larger, imagenet=None, run=tmp_path / "run", classifier=None)
    assert torch.equal(larger.position, resized(first.position, 6))  # goes on from photos of another size
    other = Albert(dataclasses.replace(TINY, width=48, heads=3))
    with pytest.raises(ValueError, match="a run of another preset"):
        start(other, imagenet=None, run=tmp_path / "run", classifier=None)


def test_weights_of_another_width_are_refused_by_name(tmp_path: Path) -> None:
    save_file({"_conv_stem.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "w.safetensors")
    stem = Albert(TINY).stem
    assert isinstance(stem, EfficientNetLite)
    with pytest.raises(ValueError, match=r"w\.safetensors: not weights of EfficientNet-lite0: _conv_stem\.weight"):
        load_imagenet(stem, tmp_path / "w.safetensors")
