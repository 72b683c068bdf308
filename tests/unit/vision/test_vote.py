"""Promises of calibration, vote, blend and decision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.vision.vote import blend, calibrated, decide, vote

floats = st.floats(0, 1)
distributions = st.lists(st.floats(0.01, 1), min_size=4, max_size=4).map(lambda p: np.array(p) / sum(p))
neighbourhoods = st.lists(st.tuples(st.floats(0, 2), st.integers(0, 3), st.booleans()), max_size=15)


@given(
    st.lists(st.floats(-200, 200), min_size=4, max_size=4),
    st.floats(0.05, 20),
    st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_calibrated_probabilities_sum_to_one_and_unsupported_classes_have_none(
    logits: list[float], temperature: float, supported: list[bool]
) -> None:
    if not any(supported):
        return
    p = calibrated(logits, temperature, supported)
    assert p.sum() == pytest.approx(1)
    assert (p[~np.array(supported)] == 0).all()


def test_calibration_works_on_rows_and_a_high_temperature_flattens() -> None:
    logits = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 5.0]])
    p = calibrated(logits, 1.0, [True, True, True])
    assert p.shape == (2, 3)
    assert p[0] == pytest.approx(np.exp([2, 1, 0]) / np.exp([2, 1, 0]).sum())
    assert (calibrated(logits, 5.0, [True] * 3).max(-1) < p.max(-1)).all()


@pytest.mark.parametrize("logits", [[np.nan, 0.0], [np.inf, 0.0]])
def test_a_model_that_fails_is_an_error_and_not_unsure(logits: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        calibrated(logits, 1.0, [True, True])


def test_nothing_supported_is_an_error() -> None:
    with pytest.raises(ValueError, match="supported"):
        calibrated([1.0, 2.0], 1.0, [False, False])


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(0, 3)), min_size=1, max_size=20), st.floats(0.001, 5))
def test_a_vote_is_a_distribution_however_far_the_neighbours(near: list[tuple[float, int]], sharpness: float) -> None:
    p = vote([d for d, _ in near], [label for _, label in near], 4, sharpness)
    assert p.shape == (4,) and p.sum() == pytest.approx(1) and (p >= 0).all()
    assert {int(i) for i in np.flatnonzero(p)} <= {label for _, label in near}


def test_nearer_neighbours_and_heavier_ones_count_more() -> None:
    # exp(-0.1 / 0.1) = 1 / e
    assert vote([0.0, 0.1], [0, 1], 2, 0.1) == pytest.approx([np.e / (np.e + 1), 1 / (np.e + 1)])
    assert vote([0.2, 0.2], [0, 1], 2, 0.1, [3.0, 1.0]) == pytest.approx([0.75, 0.25])
    assert vote([0.0, 0.1], [0, 1], 2, 1e6) == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("labels", [[], [4], [-1]])
def test_a_vote_without_voters_or_for_an_unknown_class_is_an_error(labels: list[int]) -> None:
    with pytest.raises(ValueError):
        vote([0.1] * len(labels), labels, 4, 0.1)


@given(distributions, distributions, floats)
def test_a_blend_lies_between_model_and_memory(model: np.ndarray, memory: np.ndarray, lam: float) -> None:
    p = blend(model, memory, lam)
    assert p.sum() == pytest.approx(1)
    assert (p >= np.minimum(model, memory) - 1e-12).all() and (p <= np.maximum(model, memory) + 1e-12).all()
    assert (blend(model, memory, 1.0) == model).all()
    assert (blend(model, memory, 0.0) == memory).all()


def test_above_tau_the_model_keeps_its_answer() -> None:
    decision = decide([0.7, 0.2, 0.1], [0.05, 0.06], [1, 1])
    assert (decision.outcome, decision.label, decision.confidence) == ("accept", 0, 0.7)


def test_exactly_tau_is_not_above_tau() -> None:
    assert decide([0.6, 0.4], tau=0.6).outcome == "review"
    assert decide([0.6, 0.4], [0.1], [0], tau=0.6).outcome == "blended"
    assert decide([0.6 + 1e-9, 0.4 - 1e-9], tau=0.6).outcome == "accept"
    # 0.5 * 0.5 + 0.5 * 0.75 = 0.625 exactly, in binary too
    for tau, outcome in ((0.625, "review"), (0.624, "blended")):
        assert decide([0.5, 0.5], [0.1, 0.1], [0, 1], weights=[3.0, 1.0], lam=0.5, tau=tau).outcome == outcome


def test_an_unsure_model_is_settled_by_neighbours_who_agree() -> None:
    decision = decide([0.55, 0.45], [0.1, 0.1, 0.12], [0, 0, 0])
    assert (decision.outcome, decision.label) == ("blended", 0)
    assert decision.probabilities == pytest.approx([0.7 * 0.55 + 0.3, 0.7 * 0.45])


def test_neighbours_who_disagree_send_an_unsure_answer_to_review() -> None:
    assert decide([0.55, 0.25, 0.2], [0.1, 0.1, 0.12], [2, 2, 2]).outcome == "review"
    close = decide([0.55, 0.45], [0.1, 0.1, 0.12], [1, 1, 1])  # 0.7 * 0.45 + 0.3: the memory may tip a close call
    assert (close.outcome, close.label) == ("blended", 1)


def test_without_neighbours_an_unsure_answer_goes_to_review_as_it_is() -> None:
    decision = decide([0.55, 0.45])
    assert (decision.outcome, decision.confidence) == ("review", 0.55)


def test_neighbours_that_are_too_far_know_nothing() -> None:
    decision = decide([0.55, 0.45], [0.51, 0.9], [0, 0], max_distance=0.5)
    assert (decision.outcome, decision.confidence) == ("review", 0.55)
    assert decide([0.55, 0.45], [0.5, 0.9], [0, 1], max_distance=0.5).probabilities == pytest.approx([0.685, 0.315])


def test_a_human_who_saw_nearly_the_same_crop_is_never_overruled_unseen() -> None:
    sure, training = [0.95, 0.05], [0.03] * 14
    distances, labels = [0.01, *training], [1, *[0] * 14]
    human = [True, *[False] * 14]
    assert decide(sure, distances, labels, human=human).outcome == "review"
    assert decide(sure, distances, labels, human=human).confidence < 0.95
    assert decide(sure, distances, labels).outcome == "accept"  # the same label from a model does not outrank
    assert decide(sure, [0.2, *training], labels, human=human).outcome == "accept"  # another crop
    assert decide(sure, distances, [0] * 15, human=human).outcome == "accept"  # and one who agrees


def test_a_human_can_settle_what_the_model_was_unsure_of() -> None:
    decision = decide([0.5, 0.5], [0.01], [1], human=[True])
    assert (decision.outcome, decision.label) == ("blended", 1)


@given(distributions, neighbourhoods, floats, floats)
def test_a_decision_is_always_consistent(
    model: np.ndarray, near: list[tuple[float, int, bool]], tau: float, lam: float
) -> None:
    distances, labels, human = [d for d, _, _ in near], [label for _, label, _ in near], [h for _, _, h in near]
    decision = decide(model, distances, labels, human=human, tau=tau, lam=lam)
    assert decision.probabilities.sum() == pytest.approx(1)
    assert decision.confidence == decision.probabilities.max() == decision.probabilities[decision.label]
    if decision.outcome != "review":
        assert decision.confidence > tau
    if decision.outcome == "accept":
        assert (decision.probabilities == model).all()
