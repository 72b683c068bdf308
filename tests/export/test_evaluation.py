"""Our small AP core counts as pycocotools does, and decoding does what ALBERT's equation 10 says."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from export.albert.calibrate import best_threshold, fit_scores
from export.albert.evaluate import score_at_recall
from export.evaluation import Matches, average_precision, bootstrap, mask_iou, match

GRID = 48


def _blobs(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    masks = []
    for _ in range(count):
        x, y, w, h = rng.integers(0, 30), rng.integers(0, 30), rng.integers(4, 16), rng.integers(4, 16)
        mask = np.zeros((GRID, GRID), bool)
        mask[y : y + h, x : x + w] = True
        masks.append(mask)
    return masks


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_equals_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    photos: list[Matches] = []
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    results: list[dict[str, object]] = []
    for image in range(12):
        truths = _blobs(rng, int(rng.integers(0, 5)))
        found = [np.roll(t, rng.integers(0, 4), 1) for t in truths if rng.random() < 0.8] + _blobs(
            rng, int(rng.integers(0, 4))
        )
        scores = rng.random(len(found))
        iou = mask_iou(np.array(found).reshape(-1, GRID, GRID), np.array(truths).reshape(-1, GRID, GRID))
        photos.append(match(scores, iou))
        images.append({"id": image, "width": GRID, "height": GRID})
        for truth in truths:
            rle = coco_mask.encode(np.asfortranarray(truth.astype(np.uint8)))
            annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": 1, "iscrowd": 0,
                                "area": int(truth.sum()), "segmentation": {**rle, "counts": rle["counts"].decode()},
                                "bbox": coco_mask.toBbox(rle).tolist()})  # fmt: skip
        for mask, score in zip(found, scores, strict=True):
            rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            results.append({"image_id": image, "category_id": 1, "score": float(score), "segmentation": rle})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "x"}]}
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(results), "segm")
        judge.params.maxDets = [1, 10, 100]
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    assert average_precision(photos) == pytest.approx(judge.stats[1], abs=1e-6)


def test_no_truth_is_not_a_number_and_no_detection_is_zero() -> None:
    empty = np.zeros(0)
    assert np.isnan(average_precision([match(empty, np.zeros((0, 0)))]))
    assert average_precision([match(empty, np.zeros((0, 3)))]) == 0


def test_the_interval_holds_the_value() -> None:
    rng = np.random.default_rng(0)
    photos = [Matches(rng.random(5), rng.random(5) < 0.5, 4) for _ in range(40)]
    low, high = bootstrap(photos, rounds=100)
    assert low < average_precision(photos) < high


def test_platt_scaling_makes_scores_read_as_precision() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.05, 0.95, 6000)
    boastful = 1 / (1 + np.exp(-(np.log(truth / (1 - truth)) * 2 + 1)))
    scale, shift = fit_scores([Matches(boastful, rng.random(6000) < truth, 6000)])
    fixed = 1 / (1 + np.exp(-(np.log(boastful / (1 - boastful)) * scale + shift)))
    assert float(np.abs(fixed - truth).mean()) < 0.03


def test_thresholds_trade_recall_for_precision() -> None:
    photos = [Matches(np.array([0.9, 0.8, 0.2]), np.array([True, True, False]), 2)]
    assert best_threshold(photos) == (0.8, 1.0, 1.0, 1.0)
    assert score_at_recall(photos, 0.5) == 0.9
