"""The classifier's model, losses, calibration, augmentation and export keep their promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from export.convert.to_onnx import run
from export.cropresmoe.calibrate import Projection, fit_projection, neighbours
from export.cropresmoe.config import Config
from export.cropresmoe.data import SIDE, Crops, augment
from export.cropresmoe.dataset import jittered
from export.cropresmoe.losses import focal_loss
from export.cropresmoe.model import CropResMoE, MoEHead, RawMoE, count_parameters
from export.cropresmoe.pack import Served, backbone_hash, graph_and_golden
from export.cropresmoe.runs import load_run
from export.cropresmoe.train import train
from export.resnet import ResNet50, load_resnet50
from export.statistics import ece, fit_temperature

pytestmark = pytest.mark.train


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_papers_parameter_counts_are_met_exactly() -> None:
    assert count_parameters(CropResMoE("resnet50", 6)) == 24_833_507
    assert round(count_parameters(RawMoE(6)) / 1e6, 2) == 7.93


def test_resnet_takes_torchvisions_names_and_refuses_others(tmp_path: Path) -> None:
    model = ResNet50()
    names = model.state_dict()
    assert {"conv1.weight", "layer1.0.downsample.0.weight", "layer4.2.bn3.running_var"} <= set(names)
    save_file(
        {**{k: v.contiguous() for k, v in names.items()}, "fc.weight": torch.zeros(1000, 2048)},
        tmp_path / "r.safetensors",
    )
    load_resnet50(ResNet50(), tmp_path / "r.safetensors")
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match=r"bad\.safetensors: not ResNet-50 weights"):
        load_resnet50(ResNet50(), tmp_path / "bad.safetensors")


def test_focal_loss_with_gamma_zero_is_cross_entropy() -> None:
    logits, target = torch.randn(9, 4), torch.randint(0, 4, (9,))
    ours = focal_loss(logits, F.one_hot(target, 4).float(), torch.ones(4), 0.0)
    assert torch.allclose(ours, F.cross_entropy(logits, target), atol=1e-6)


def test_a_sure_answer_does_not_spoil_focal_loss_whose_gamma_is_below_one() -> None:
    logits = torch.tensor([[80.0, -80.0], [0.3, -0.2]], requires_grad=True)
    loss = focal_loss(logits, torch.eye(2)[[0, 1]], torch.ones(2), 0.5)
    torch.autograd.backward([loss])
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[0] == 0).all(), "what is sure and right teaches nothing"


def test_gates_are_a_distribution_and_logits_their_mixture() -> None:
    model = CropResMoE("lite0", 7).eval()
    logits, gates, x = model(torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8))
    assert torch.allclose(gates.sum(1), torch.ones(2))
    assert isinstance(model.head, MoEHead)
    by_hand = torch.stack([gates[:, i, None] * expert(x) for i, expert in enumerate(model.head.experts)]).sum(0)
    assert torch.allclose(logits, by_hand, atol=1e-5)


def test_augmentation_keeps_shape_type_and_seed() -> None:
    crops = torch.randint(0, 255, (3, SIDE, SIDE, 3), dtype=torch.uint8)
    a = augment(crops, 96, 0.2, torch.Generator().manual_seed(1))
    b = augment(crops, 96, 0.2, torch.Generator().manual_seed(1))
    assert a.shape == (3, 96, 96, 3)
    assert a.dtype == torch.uint8
    assert torch.equal(a, b)


def test_jittered_boxes_stay_boxes_inside_the_photo() -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 0.8, (500, 2))
    boxes = jittered(np.concatenate([low, low + rng.uniform(0.01, 0.2, (500, 2))], 1), rng)
    assert (boxes >= 0).all()
    assert (boxes <= 1).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_temperature_recovers_the_scale_that_spoiled_calibration() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4000, 5)) * 2
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    y = np.array([rng.choice(5, p=row) for row in p])
    assert fit_temperature(z * 3, y, np.ones(5, bool)) == pytest.approx(3, rel=0.1)


def test_ece_is_small_for_a_calibrated_and_large_for_a_boastful_model() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 5000)
    hits = rng.random(5000) < confidence
    assert ece(confidence, hits) < 0.03
    assert ece(np.ones(5000), hits) > 0.2


def test_no_crop_retrieves_itself_or_its_siblings() -> None:
    x = fit_projection(np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32), 8)
    e = x(np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32))
    image = np.arange(40) // 4
    _, index = neighbours(e, e, k=5, same=image[:, None] == image[None])
    assert (image[index] != image[:, None]).all()


def test_a_run_becomes_a_graph_with_unit_embeddings_and_a_hash_of_its_backbone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    crops = Crops(
        pixels=rng.integers(0, 255, (8, SIDE, SIDE, 3)).astype(np.uint8),
        labels=np.array([0, 1] * 4),
        image=np.arange(8),
        size=np.zeros(8, np.int64),
        served=rng.integers(0, 255, (8, 64, 64, 3)).astype(np.uint8),
    )
    config = Config(backbone="lite0", size=64, epochs=1, batch=4, frozen=0)
    train(config, crops, crops, ["a", "b"], tmp_path)
    model, _ = load_run(tmp_path, ["a", "b"])
    features = model.embed(torch.from_numpy(crops.served)).detach().numpy()
    matrix = np.linalg.qr(rng.normal(size=(model.width, 4)))[0].astype(np.float32)
    projection = Projection(np.zeros(model.width, np.float32), matrix)
    graph, golden = graph_and_golden(Served(model, projection), 64)
    assert len(golden) > 1000
    logits, gates, embedding = run(graph, {"crops": crops.served[:3]})
    assert logits.shape == (3, 2)
    assert gates.shape == (3, 5)
    assert np.allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-4)
    assert np.allclose(embedding, projection(features[:3]), atol=1e-3)
    before = backbone_hash(model, projection, {"size": 64})
    assert isinstance(model.head, MoEHead)
    with torch.no_grad():
        model.head.router.bias.add_(1)
    assert backbone_hash(model, projection, {"size": 64}) == before, "the head may change without a new index"
    assert backbone_hash(model, projection, {"size": 96}) != before
