"""Labelling half by machine: what is written can be corrected, read back, and goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

import torch

from export.data.coco import CocoError, read_coco
from export.labelling import corrected, finetune
from export.labelling.label import pictures_of, read_done, run
from export.labelling.labeller import Labeller
from export.labelling.regions import Labelled, Region
from export.labelling.tasks import coco, label_studio
from services.common.serving.modelpack import PackError, load_pack
from tests.packs import COLOURS, write_memory_pack, write_test_packs

pytestmark = pytest.mark.train
CATEGORIES = {"dent": "dent", "scratch": "scratch", "broken_part": "crack"}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in {**COLOURS, "grey": (120, 120, 120)}.items():
        Image.fromarray(np.full((48, 64, 3), colour, np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def labeller(tmp_path: Path) -> Labeller:
    packs = write_test_packs(tmp_path / "packs")
    return Labeller(load_pack(packs["classify"]), load_pack(packs["memory"]))


def test_crops_get_names_confidences_and_where_these_came_from(
    labeller: Labeller, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert run(labeller, pictures, list(pictures_of(pictures)), out, draw=True) == []
    done = {name.removesuffix(".png"): entry.labels[0] for name, entry in read_done(out / "done.jsonl").items()}
    assert {name: done[name].name for name in COLOURS} == {name: name for name in COLOURS}
    assert all(done[name].source == "model" and done[name].confidence > 0.6 for name in COLOURS)
    assert done["grey"].source != "model"
    assert sorted(path.name for path in (out / "annotated").iterdir()) == sorted(f"{name}.png.webp" for name in done)


def test_what_was_stopped_goes_on_and_a_bad_picture_stops_nothing(
    labeller: Labeller, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (pictures / "bad.png").write_bytes(b"no picture")
    given = list(pictures_of(pictures))
    run(labeller, pictures, [entry for entry in given if entry[0] == "dent.png"], out, draw=False)
    with (out / "done.jsonl").open("a") as log:
        log.write('{"file": "scratch.png", "wid')  # killed in the middle of a line
    (bad,) = run(labeller, pictures, given, out, draw=False)
    assert bad.startswith("bad.png")
    assert set(read_done(out / "done.jsonl")) == {"dent.png", "scratch.png", "broken_part.png", "grey.png"}


def test_a_memory_of_another_classifier_is_refused(tmp_path: Path) -> None:
    packs = write_test_packs(tmp_path / "packs")
    other = write_memory_pack(tmp_path / "other", backbone="b" * 64)
    with pytest.raises(PackError, match="another classifier"):
        Labeller(load_pack(packs["classify"]), load_pack(other))


def test_tasks_that_a_person_corrected_become_a_split_that_export_reads(pictures: Path, tmp_path: Path) -> None:
    seen = [Labelled("dent.png", 64, 48, (Region((0.25, 0.25, 0.75, 0.5), "dent", 0.9, "model"),))]
    tasks = label_studio(seen, "cropresmoe 1")
    result = tasks[0]["predictions"][0]["result"]
    result[0]["value"]["rectanglelabels"] = ["broken_part"]
    file = tmp_path / "export.json"
    file.write_text(json.dumps([{**tasks[0], "annotations": [{"result": result}]}, {"data": {}, "annotations": []}]))
    found = corrected.read(file, pictures, {name: served for served, name in CATEGORIES.items()})
    path = corrected.write(found, pictures, tmp_path / "data", CATEGORIES)
    (photo,) = read_coco(path).photos
    (annotation,) = photo.annotations
    assert (annotation.category, annotation.box, annotation.weak) == ("crack", (16, 12, 48, 24), "box_only")


def test_corrected_coco_comes_back_too(pictures: Path, tmp_path: Path) -> None:
    seen = [Labelled("scratch.png", 64, 48, (Region((0, 0, 0.5, 0.5), "scratch", 0.7, "review"),))]
    (pictures / "coco.json").write_text(json.dumps(coco(seen, CATEGORIES)))
    found = corrected.read(pictures / "coco.json", pictures, {name: served for served, name in CATEGORIES.items()})
    assert [(entry.file, entry.labels) for entry in found] == [("scratch.png", (Region((0, 0, 0.5, 0.5), "scratch"),))]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"rectanglelabels": ["rust"]}, "rust"),
        ({"x": 90}, "outside"),
        ({"width": 0}, "no area"),
        ({"rotation": 30}, "rotated"),
    ],
)
def test_a_correction_that_makes_no_sense_is_named_and_nothing_is_written(
    pictures: Path, tmp_path: Path, value: dict[str, object], why: str
) -> None:
    seen = [Labelled("dent.png", 64, 48, (Region((0.25, 0.25, 0.75, 0.5), "dent", 0.9, "model"),))]
    task = label_studio(seen, "1")[0]
    result = task["predictions"][0]["result"]
    result[0]["value"].update(value)
    outside = {**task, "data": {"file": "../secret.png"}, "annotations": [{"result": []}]}
    (tmp_path / "export.json").write_text(json.dumps([{**task, "annotations": [{"result": result}]}, outside]))
    with pytest.raises(CocoError, match=why) as error:
        corrected.read(tmp_path / "export.json", pictures, {name: served for served, name in CATEGORIES.items()})
    assert "leads out" in str(error.value)


def test_features_are_made_once_and_go_on_where_they_were_stopped(tmp_path: Path) -> None:
    class Counted(torch.nn.Module):
        seen = 0

        def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, ...]:
            self.seen += len(crops)
            flat = crops.float().flatten(1)
            return flat, flat, flat

    model, crops = Counted(), np.random.default_rng(0).integers(0, 255, (100, 2, 2, 3), np.uint8)
    first = finetune.features(model, crops, tmp_path, "backbone")
    assert torch.equal(first, torch.from_numpy(crops).float().flatten(1)) and model.seen == 100
    next(tmp_path.glob("*/000064.npy")).unlink()  # stopped before the last batch was there
    assert torch.equal(finetune.features(model, crops, tmp_path, "backbone"), first) and model.seen == 136
    finetune.features(model, crops, tmp_path, "another backbone")
    assert model.seen == 236
