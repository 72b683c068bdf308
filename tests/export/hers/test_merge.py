"""Merging experts: what each method promises, on tensors alone."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from export.hers import lora
from export.hers.merge import METHODS, LowRank, MergeError, compare, merge, truncated


def expert(seed: int, *, rank: int = 4, alpha: float = 4.0, shared: torch.Tensor | None = None) -> dict[str, LowRank]:
    rng = torch.Generator().manual_seed(seed)
    down = torch.randn(rank, 20, generator=rng) if shared is None else shared
    return {name: LowRank(down, torch.randn(24, rank, generator=rng), alpha) for name in ("down.to_q", "up.to_k")}


def error(merged: torch.Tensor, target: torch.Tensor) -> float:
    return float((merged - target).norm() / target.norm())


def test_mean_is_the_mean_of_the_updates_whatever_ranks_and_alphas_are() -> None:
    experts = [expert(0), expert(1, rank=6, alpha=3.0), expert(2, rank=2, alpha=8.0)]
    for name, part in merge(experts).items():
        target = torch.stack([e[name].delta() for e in experts]).mean(0)
        assert error(part.delta(), target) < 1e-6
    assert compare(merge(experts), experts).relative_error < 1e-6


def test_one_expert_stays_as_it_is_under_every_method() -> None:
    alone = expert(0, alpha=2.0)
    for method in METHODS:
        for name, part in merge([alone], method=method).items():
            assert error(part.delta(), alone[name].delta()) < 2e-6, method


def test_the_order_of_experts_changes_nothing() -> None:
    experts = [expert(seed) for seed in range(3)]
    for method in METHODS:
        made = [merge(list(order), method=method)["up.to_k"].delta() for order in itertools.permutations(experts)]
        assert all(error(each, made[0]) < 2e-6 for each in made), method


def test_product_is_the_papers_equation_and_not_the_mean() -> None:
    experts = [expert(seed, alpha=8.0) for seed in range(3)]
    merged = merge(experts, method="product")["down.to_q"]
    a = sum((e["down.to_q"].down for e in experts), torch.zeros(())) / 3
    b = sum((e["down.to_q"].up for e in experts), torch.zeros(())) / 3
    assert error(merged.delta(), 2.0 * b @ a) < 1e-6
    assert compare(merge(experts, method="product"), experts).relative_error > 0.3


def test_from_one_shared_a_that_never_moved_product_is_the_mean() -> None:
    shared = torch.randn(4, 20, generator=torch.Generator().manual_seed(9))
    experts = [expert(seed, shared=shared) for seed in range(3)]
    assert compare(merge(experts, method="product"), experts).relative_error < 1e-6


def test_the_same_expert_written_differently_changes_product_only() -> None:
    experts = [expert(seed) for seed in range(3)]
    turn = torch.randn(4, 4, generator=torch.Generator().manual_seed(5))
    rewritten = {
        name: LowRank(turn @ part.down, part.up @ torch.linalg.inv(turn), part.alpha)
        for name, part in experts[0].items()
    }
    for method in METHODS:
        before = merge(experts, method=method)["down.to_q"].delta()
        after = merge([rewritten, *experts[1:]], method=method)["down.to_q"].delta()
        assert (error(after, before) < 1e-4) == (method != "product"), method


def test_svd_is_the_best_of_its_rank() -> None:
    experts = [expert(seed) for seed in range(3)]
    exact = merge(experts)["up.to_k"]
    cut = truncated(exact, 5)
    s = torch.linalg.svdvals(exact.delta())
    assert cut.rank == 5
    assert float((cut.delta() - exact.delta()).norm()) == pytest.approx(float(s[5:].norm()), rel=1e-4)


def test_an_expert_of_weight_zero_takes_no_part() -> None:
    experts = [expert(seed) for seed in range(3)]
    merged = merge(experts, [1, 1, 0])
    assert merged["up.to_k"].rank == 8
    assert error(merged["up.to_k"].delta(), merge(experts[:2])["up.to_k"].delta()) < 1e-6


@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.0, 0.0, 0.0], [1.0, -1.0, 1.0], [float("nan"), 1.0, 1.0]])
def test_weights_that_make_no_mean_are_refused(weights: list[float]) -> None:
    with pytest.raises(MergeError, match="weights"):
        merge([expert(seed) for seed in range(3)], weights)


def test_experts_of_different_bases_or_layers_are_refused() -> None:
    other = {name: LowRank(torch.ones(4, 7), torch.ones(24, 4), 4.0) for name in expert(0)}
    with pytest.raises(MergeError, match="different widths"):
        merge([expert(0), other])
    with pytest.raises(MergeError, match="different layers"):
        merge([expert(0), {"down.to_q": expert(1)["down.to_q"]}])
    with pytest.raises(MergeError, match="one rank and one alpha"):
        merge([expert(0), expert(1, rank=2)], method="product")


def test_a_file_gives_back_the_same_update_and_names_its_base(tmp_path: Path) -> None:
    made = expert(0, alpha=2.0)
    lora.write(tmp_path, made, base="b" * 64)
    back = lora.read(tmp_path)
    assert lora.base_of(tmp_path) == "b" * 64
    assert all(error(back[name].delta(), part.delta()) < 1e-6 for name, part in made.items())
