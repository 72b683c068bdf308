"""The report counts as COCO counts, tells missed from mistaken and from seen in nothing, and keeps its pictures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.albert import report, retention
from export.albert.coco_ap import CocoTable
from export.albert.study import Case, Domain, Study, outcome
from export.evaluation import average_precision, mask_iou, match
from services.common.serving.modelpack import load_pack
from services.common.vision.instances import DecodedInstance
from tests.packs import COLOURS, painted_photo, write_segment_pack

pytestmark = pytest.mark.train
GRID = 40
THRESHOLDS = {"damage": 0.3}
BOXES = {"dent": (0.2, 0.2, 0.6, 0.6), "scratch": (0.5, 0.5, 0.8, 0.8)}


def _mask(x: int, y: int, side: int) -> np.ndarray:
    mask = np.zeros((GRID, GRID), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def _found(label: str, score: float, mask: np.ndarray) -> DecodedInstance:
    return DecodedInstance("damage", label, score, [(label, score)], 0.0, (0, 0, 1, 1), mask)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four photos: a dent, a dent whose label is scratch, a primer patch, an undamaged car."""
    images, annotations = [], []
    for i, (label, negative) in enumerate(
        [("dent", None), ("scratch", None), (None, "primer_repair_patch"), (None, "undamaged_car")], start=1
    ):
        patches = [] if negative else [(COLOURS["dent"], BOXES["dent"])]
        (tmp_path / "damage").mkdir(exist_ok=True)
        Image.fromarray(painted_photo(*patches)).save(tmp_path / "damage" / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": 320, "height": 240, "source": "bilgi"})
        if negative:
            images[-1]["negative"] = negative
        else:
            x0, y0, x1, y1 = 64, 48, 192, 144
            ring = [x0, y0, x1, y0, x1, y1, x0, y1]
            annotations.append({"id": i, "image_id": i, "category_id": 1 if label == "dent" else 2,
                                "bbox": [x0, y0, x1 - x0, y1 - y0], "segmentation": [ring]})  # fmt: skip
    categories = [{"id": 1, "name": "dent"}, {"id": 2, "name": "scratch"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "damage" / "test.json").write_text(json.dumps(content))
    return tmp_path


def test_cocos_ap50_is_the_one_that_intervals_are_made_of() -> None:
    rng, table, photos = np.random.default_rng(0), CocoTable(["dent", "scratch"]), []
    for _ in range(20):
        truths = [
            ("dent", _mask(int(rng.integers(20)), int(rng.integers(20)), int(rng.integers(4, 18)))) for _ in range(3)
        ]
        found = [_found("dent", float(rng.random()), np.roll(m, int(rng.integers(0, 4)), 1)) for _, m in truths]
        table.add(truths, found)
        iou = mask_iou(np.array([f.mask for f in found]), np.array([m for _, m in truths]))
        photos.append(match(np.array([f.score for f in found]), iou))
    rows = table.rows()
    assert [row.name for row in rows] == ["any", "dent"], "what is not labelled is not averaged"
    assert rows[0].ap50 == pytest.approx(average_precision(photos), abs=1e-6)
    assert rows[0].ap < rows[0].ap50
    assert 0 < table.boundary("dent") <= 1


def test_sizes_are_those_of_the_labelled_masks_on_a_scaled_photo() -> None:
    table = CocoTable(["dent"])
    masks = [_mask(0, 0, 4), _mask(5, 5, 10), _mask(0, 0, 30)]  # 6,840, 42,750 and 384,750 of 684,000 pixels
    table.add([("dent", m) for m in masks], [_found("dent", 0.9, masks[2])])
    assert {size: n for size, (_, n) in table.rows()[0].sizes.items()} == {"small": 1, "medium": 1, "large": 1}
    assert table.rows()[0].sizes["large"][0] == pytest.approx(1.0)
    assert table.rows()[0].sizes["small"][0] == 0.0
    assert all("bbox" not in result for result in table.found)


def test_each_labelled_damage_is_right_of_another_class_or_missed_and_the_rest_is_background() -> None:
    truths = [("dent", _mask(0, 0, 10)), ("scratch", _mask(20, 0, 10)), ("dent", _mask(0, 20, 10))]
    listed = [
        _found("dent", 0.9, truths[0][1]),
        _found("dent", 0.8, truths[1][1]),
        _found("dent", 0.7, _mask(25, 25, 9)),
    ]
    counts = outcome(truths, listed, np.array([m for _, m in truths]))
    assert counts == (1, 1, 1, 1)
    ratios = Domain(CocoTable([]), [counts]).ratios()
    assert {name: value for name, (value, _, _) in ratios.items()} == {
        "accuracy": pytest.approx(1 / 4),
        "precision": pytest.approx(1 / 3),
        "recall": pytest.approx(1 / 3),
        "F1": pytest.approx(1 / 3),
    }


def test_the_best_and_the_worst_photos_are_kept(tmp_path: Path) -> None:
    study = Study(load_pack(write_segment_pack(tmp_path, thresholds=THRESHOLDS)).manifest, cases=2)
    for f1 in (0.5, 0.1, 0.9, 0.3, 0.7):
        study._show(Case(np.zeros((4, 4, 3), np.uint8), [("dent", _mask(0, 0, 9))], [], f1))
    assert [case.f1 for case in study.cases] == [0.1, 0.3, 0.7, 0.9]


def test_one_command_writes_a_page_with_pictures_beside_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = write_segment_pack(tmp_path / "pack", thresholds=THRESHOLDS)
    out = tmp_path / "out" / "report.html"
    monkeypatch.setattr(sys, "argv", ["report", "--pack", str(pack), "--data", str(data), "--out", str(out)])
    report.main()
    page = out.read_text()
    assert "right 1, wrong class 1, missed 0, background 0" in page
    assert "false damages per photo of a primer patch, as listed" in page
    for picture in [part.split('"')[0] for part in page.split('src="')[1:]]:
        assert (out.parent / picture).read_bytes()[:4] == b"RIFF"


def test_a_student_that_is_its_own_teacher_keeps_everything(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = str(write_segment_pack(tmp_path / "pack", thresholds=THRESHOLDS))
    argv = ["retention", "--teacher", pack, "--student", pack, "--data", str(data)]
    monkeypatch.setattr(sys, "argv", argv)
    retention.main()
    said = capsys.readouterr().out
    assert "| damage mask AP50, class-agnostic | 1.000 | 1.000 | 1.000 |" in said
    assert [line.split(" | ")[0] for line in said.splitlines() if line.endswith("| 1.00 |")] == ["| albert 1 fp32"] * 2
