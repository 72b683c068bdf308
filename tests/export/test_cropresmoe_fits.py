"""Losses, tuned thresholds, heads on cached features and baselines keep their promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from export.cropresmoe import features as cache
from export.cropresmoe.backbones import load_pretrained
from export.cropresmoe.blending import Blend, cross_fitted, fit_blend, fit_tau, fit_taus
from export.cropresmoe.cost import cost
from export.cropresmoe.dataset import Cut
from export.cropresmoe.features import Features, features
from export.cropresmoe.frozen import GRID
from export.cropresmoe.heads import HeadConfig, logits_of, train_head
from export.cropresmoe.losses import Focus, distillation
from export.cropresmoe.model import CropResMoE
from export.cropresmoe.results import keep, measure, read
from export.labels import load_labels
from export.statistics import average_precisions, nll, precision_at_least
from services.common.vision.vote import blend, calibrated, vote
from tests.export.crops_set import write_set

CPU = torch.device("cpu")


def toy(n: int = 600, d: int = 24, seed: int = 0) -> Features:
    """Three overlapping clouds."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = np.random.default_rng(9).normal(size=(3, d))[y] + rng.normal(size=(n, d)) * 1.5
    return Features(x.astype(np.float32), np.zeros((n, 3), np.float32), y, np.arange(n), np.zeros(n, np.int64))


def held_out(config: HeadConfig) -> tuple[float, float]:
    """Accuracy and NLL of a head on clouds that it did not see."""
    torch.set_num_threads(1)
    test = toy(seed=1)
    p = calibrated(logits_of(train_head(config, toy(), 3), test), 1.0, np.ones(3, bool))
    return float((p.argmax(1) == test.labels).mean()), nll(p, test.labels)


def test_the_papers_learning_rate_is_a_misprint() -> None:
    (right, loss), (misprint, worse) = (held_out(HeadConfig(epochs=12, lr=lr)) for lr in (1e-3, 2e-1))
    assert right > misprint
    assert worse > 2 * loss, "wrong answers are given with confidence"


def test_the_focal_grid_is_the_papers_ten_cells() -> None:
    assert len(set(GRID)) == 10
    assert {g for a, g in GRID if a == 0.25} == {5.0, 3.0, 2.0, 1.0}


@pytest.mark.parametrize(("backbone", "millions"), [("resnet50", 23.52), ("efficientnet_b0", 4.02), ("swin_t", 27.52)])
def test_the_baselines_have_the_papers_parameter_counts(backbone: str, millions: float) -> None:
    assert round(cost(backbone, "linear", 6).parameters / 1e6, 2) == millions


def test_a_transformers_folder_loads_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    model = CropResMoE("efficientnet_b0", 6, head="linear")
    net = model.backbone.get_submodule("net")
    net.save_pretrained(tmp_path / "b0")  # type: ignore[operator]
    fresh = CropResMoE("efficientnet_b0", 6, head="linear")
    assert load_pretrained(fresh.backbone, tmp_path / "b0")
    assert all(torch.equal(a, b) for a, b in zip(fresh.backbone.parameters(), net.parameters(), strict=True))
    (tmp_path / "b0" / "model.safetensors").write_bytes(b"{}")
    with pytest.raises(ValueError, match="b0: not weights of EfficientNetModel"):
        load_pretrained(fresh.backbone, tmp_path / "b0")


def test_a_student_that_agrees_with_its_teacher_has_nothing_to_learn() -> None:
    a, b = torch.randn(5, 4), torch.randn(5, 4)
    assert distillation(a, a, 2.0) == pytest.approx(0, abs=1e-6)
    p, q = (a / 2).softmax(-1), (b / 2).softmax(-1)
    assert distillation(b, a, 2.0) == pytest.approx(float(4 * (p * (p / q).log()).sum(-1).mean()), rel=1e-4)


def test_adaptive_focus_looks_longest_at_what_is_not_learned() -> None:
    focus = Focus(2, gamma=1.0, adaptive=2.0, device=CPU)
    for _ in range(50):
        focus.see(torch.tensor([[4.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1]))
    assert focus.gamma[0] < 1.2
    assert focus.gamma[1] > 1.9
    plain = Focus(2, gamma=1.0, adaptive=0.0, device=CPU)
    plain.see(torch.zeros(1, 2), torch.tensor([0]))
    assert plain.gamma.tolist() == [1, 1]


def test_macro_weighted_and_micro_ap_are_three_numbers() -> None:
    rng = np.random.default_rng(0)
    y = np.array([0] * 90 + [1] * 10)
    p = F.softmax(torch.from_numpy(rng.normal(size=(100, 2)) + 2 * np.eye(2)[y] * [[2, 0.3]]), -1).numpy()
    found = average_precisions(p, y)
    assert len({round(found.macro, 3), round(found.weighted, 3), round(found.micro, 3)}) == 3
    perfect = average_precisions(np.eye(2)[y], y)
    assert (perfect.macro, perfect.weighted, perfect.micro) == (1, 1, 1)


def test_the_tuned_blend_is_the_served_one_on_many_rows() -> None:
    rng = np.random.default_rng(0)
    p, d = rng.dirichlet(np.ones(4), 6), np.sort(rng.uniform(0, 1, (6, 15)), 1)
    y = rng.integers(0, 4, (6, 15))
    many = Blend(0.7, 10, 0.1)(p, d, y)
    one = np.stack([blend(p[i], vote(d[i, :10], y[i, :10], 4, 0.1), 0.7) for i in range(6)])
    assert np.allclose(many, one)
    assert np.allclose(many.sum(1), 1)
    assert np.allclose(Blend(1.0, 5, 0.1)(p, d, y), p)


def test_the_blend_trusts_neighbours_that_know_and_ignores_those_that_do_not() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200)
    p, d = rng.dirichlet(np.ones(3), 200), np.sort(rng.uniform(0, 1, (200, 25)), 1)
    assert fit_blend(p, y, d, np.repeat(y[:, None], 25, 1), tau=0.6).lam == 0.5
    assert fit_blend(np.eye(3)[y] * 0.5 + 0.5 / 3, y, d, rng.integers(0, 3, (200, 25)), tau=0.9).lam == 1.0


def test_tau_is_the_smallest_that_is_right_often_enough_or_sends_all_to_review() -> None:
    rng = np.random.default_rng(0)
    top = rng.uniform(0.5, 1, 4000)
    y = (rng.random(4000) > top).astype(np.int64)  # class 0 is right with probability `top`: calibrated
    p = np.stack([top, 1 - top], 1)
    tau = fit_tau(p, y, 0.9)
    assert 0.78 < tau < 0.88, "above 0.8 the mean of a uniform confidence is 0.9"
    assert fit_tau(p, rng.integers(0, 2, 4000), 0.9) == 1.0
    assert precision_at_least(20, 20) == pytest.approx(0.05 ** (1 / 20))
    assert precision_at_least(0, 20) == 0


def test_classes_with_few_answers_share_one_threshold() -> None:
    rng = np.random.default_rng(0)
    y = np.array([0] * 200 + [1] * 20 + [2] * 15)
    p = np.eye(3)[y] * 0.8 + rng.dirichlet(np.ones(3), 235) * 0.2
    taus = fit_taus(p, y, ["a", "b", "c"])
    assert taus["b"] == taus["c"]
    assert set(taus) == {"a", "b", "c"}


def test_no_temperature_sees_the_photo_that_it_calibrates() -> None:
    rng = np.random.default_rng(0)
    logits, y, group = rng.normal(size=(60, 3)), rng.integers(0, 3, 60), np.arange(60) // 3
    every = np.ones(3, bool)
    before = cross_fitted(logits, y, group, every)
    y[:3] = (y[:3] + 1) % 3  # other labels on the first photo
    after = cross_fitted(logits, y, group, every)
    assert np.array_equal(before[:3], after[:3])
    assert not np.array_equal(before, after)


def test_features_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_set(tmp_path / "data", {"val": 2})
    model = CropResMoE("lite0", 7)
    options = {"cut": Cut(32, 0.2), "cache": tmp_path}
    first = features(model, data, "val", load_labels(), **options)  # type: ignore[arg-type]
    monkeypatch.setattr(cache, "load_crops", None)
    again = features(model, data, "val", load_labels(), **options)  # type: ignore[arg-type]
    assert np.array_equal(first.x, again.x)
    with torch.no_grad():
        next(model.backbone.parameters()).add_(1)
    with pytest.raises(TypeError):  # other weights: the cache does not answer, and photos would be opened
        features(model, data, "val", load_labels(), **options)  # type: ignore[arg-type]


def test_a_row_measured_again_replaces_itself(tmp_path: Path) -> None:
    found = toy()
    words = {"table": "focal", "samples": "every box", "training": "", "split": "val", "command": "c"}
    for name in ("a", "b", "a"):
        row = measure(found.logits, found.labels, found.image, np.ones(3, bool), size=found.size, name=name, **words)
        keep(tmp_path / "results.json", [row])
    assert [r.name for r in read(tmp_path / "results.json")] == ["a", "b"]
    (tmp_path / "results.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"results\.json: no table of results"):
        read(tmp_path / "results.json")
