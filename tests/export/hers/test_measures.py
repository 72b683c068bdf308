"""What the evaluation's numbers mean: distances, utility, votes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from export.hers.blind import key, page, strengths
from export.hers.pairs import read_pairs
from export.hers.trust import frechet, kid, kl, trust
from export.hers.utility import Rows, made_rows, utility
from services.common.serving.modelpack import load_pack


def embedding(seed: int, n: int = 120, shift: float = 0.0) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    x = np.random.default_rng(seed).normal(size=(n, 16)) + shift
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)


def test_pictures_like_the_real_ones_are_trusted_and_others_refused() -> None:
    near, far = trust(embedding(0), embedding(1), rounds=60), trust(embedding(0), embedding(1, shift=1.0), rounds=60)
    assert not near.refused
    assert far.refused
    assert near.kid.low <= near.kid.value <= near.kid.high
    assert far.fid.value > near.fid.value
    assert far.kl.value > near.kl.value
    with pytest.raises(ValueError, match="at least 20"):
        trust(embedding(0), embedding(1, n=5))


def test_a_distance_from_oneself_is_none() -> None:
    x = embedding(0, n=400).astype(np.float64)
    assert frechet(x, x) == pytest.approx(0, abs=1e-6)
    assert kl(x, x) == pytest.approx(0, abs=1e-9)
    draws = [kid(embedding(s).astype(np.float64), embedding(100 + s).astype(np.float64)) for s in range(40)]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / np.sqrt(40)  # unbiased: positive and negative in equal parts


def test_frechet_and_kl_are_the_closed_forms_of_gaussians() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20000, 2)), rng.normal(size=(20000, 2)) * 2 + [1, 0]
    assert frechet(x, y) == pytest.approx(1 + 2 * (1 - 2) ** 2, abs=0.15)
    assert kl(x, y) == pytest.approx(0.5 * (2 / 4 + 1 / 4 - 2 + np.log(16)), abs=0.03)


def test_generated_rows_of_a_rare_class_can_help_and_useless_ones_are_seen_to_do_nothing() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(3, 16, dtype=np.float32) * 3

    def rows(label: int, n: int) -> Rows:
        x = (rng.normal(size=(n, 16)) + centres[label]).astype(np.float32)
        return Rows(x / np.linalg.norm(x, axis=1, keepdims=True), np.full(n, label))

    def all_of(*many: Rows) -> Rows:
        return Rows(np.concatenate([r.embedding for r in many]), np.concatenate([r.label for r in many]))

    real = all_of(rows(0, 200), rows(1, 200), rows(2, 2))
    test = all_of(rows(0, 50), rows(1, 50), rows(2, 50))
    helpful = utility(real, rows(2, 60), test, rare=[2], k=50)[0]
    assert helpful.mean > 0.2
    assert (helpful.added, helpful.test, len(helpful.before)) == (50, 50, 3)
    noise = Rows(rows(0, 60).embedding, np.full(60, 2))
    assert utility(real, noise, test, rare=[2], k=50)[0].mean < helpful.mean


def test_generated_pictures_count_for_what_they_were_asked_to_show(pairs: Path) -> None:
    pack = load_pack(Path("models/cropresmoe"))
    rows = made_rows(pack, pairs)
    assert rows.embedding.shape == (len(rows.label), pack.manifest.embedding_dim)
    asked = {prompt.damage for _, prompt, _ in read_pairs(pairs) if prompt.damage}
    classes = pack.manifest.vocabulary.classes
    agreeing = {c for c in classes for damage in asked if pack.manifest.vocabulary.agrees(damage, c)}
    assert {classes[label] for label in rows.label} == agreeing
    with pytest.raises(ValueError, match="no pair"):
        made_rows(pack, pairs, least=0.5)  # nobody judged these


def test_blind_votes_rank_the_variant_that_people_prefer(tmp_path: Path) -> None:
    shown = page({"base": [b"a"] * 6, "mean": [b"b"] * 6}, ["<b>prompt</b>"] * 6, seed=3)
    assert "<b>prompt" not in shown
    assert "mean" not in shown.replace("meanwhile", "")
    cards = key(["base", "mean"], 6, seed=3)
    assert {card["left"] for card in cards} == {"base", "mean"}
    votes = tmp_path / "votes.json"
    votes.write_text(json.dumps({n: "left" if card["left"] == "mean" else "right" for n, card in enumerate(cards)}))
    first, second = strengths(votes, cards)
    assert (first.variant, second.variant) == ("mean", "base")
    assert first.value > 0.7
    assert first.low <= first.value <= first.high
