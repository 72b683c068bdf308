"""Scores are fitted to what was right on labelled photos."""

from __future__ import annotations

import numpy as np
import pytest

from export.albert.ranking import weights
from services.common.vision.proposals import SIGNALS

pytestmark = pytest.mark.train


def test_the_weights_find_what_tells_right_masks_from_wrong_ones() -> None:
    rng = np.random.default_rng(0)
    signals = rng.normal(3.0, 2.0, (4000, len(SIGNALS)))
    chance = 1 / (1 + np.exp(-(1.5 * signals[:, SIGNALS.index("iou")] - signals[:, SIGNALS.index("area")] - 1)))
    found = weights(signals, rng.random(4000) < chance)
    assert found["rank_iou"] == pytest.approx(1.5, abs=0.15)
    assert found["rank_area"] == pytest.approx(-1.0, abs=0.15)
    assert found["rank_constant"] == pytest.approx(-1.0, abs=0.5)
    assert all(abs(found[f"rank_{name}"]) < 0.1 for name in SIGNALS if name not in ("iou", "area"))


def test_signals_that_never_vary_and_hits_that_never_miss_do_no_harm() -> None:
    found = weights(np.ones((50, len(SIGNALS))), np.ones(50, bool))
    assert all(np.isfinite(value) for value in found.values())
