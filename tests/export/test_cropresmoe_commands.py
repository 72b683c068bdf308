"""The classifier's commands, from labelled photos to a page, and what they say when something is wrong."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from export.config import load_preset
from export.convert.to_onnx import BATCHES, session
from export.cropresmoe import evaluate, frozen, pack, pseudo, report, train
from export.cropresmoe.config import Config
from export.cropresmoe.dataset import Cut, Protocol, load_crops
from export.data.coco import read_coco
from export.labels import load_labels
from services.common.serving.modelpack import load_pack
from tests.export.crops_set import CATEGORIES, write_set

PRESET = """
backbone: lite0
size: 64
epochs: 1
batch: 8
frozen: 0
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained and packed classifier: data/, run/, models/."""
    room = tmp_path_factory.mktemp("classifier")
    write_set(room / "data", {"train": 20, "val": 20, "test": 10})
    (room / "tiny.yaml").write_text(PRESET)
    call(train.main, "--data", room / "data", "--out", room / "run", "--preset", room / "tiny.yaml")
    call(pack.main, "--run", room / "run", "--data", room / "data", "--out", room / "models")
    return room


def call(main: Callable[[], object], *arguments: object) -> None:
    before, sys.argv = sys.argv, ["command", *map(str, arguments)]
    try:
        main()
    finally:
        sys.argv = before


def packs(room: Path) -> tuple[object, ...]:
    return "--pack", room / "models/cropresmoe", "--memory", room / "models/memory", "--data", room / "data"


def test_a_pack_states_what_was_measured_and_what_validation_would_serve(room: Path) -> None:
    manifest = load_pack(room / "models/cropresmoe").manifest
    assert (manifest.thresholds["tau"], manifest.thresholds["lambda"]) == (0.6, 0.7)
    assert {"tuned.tau", "tuned.lambda", "tuned.k", "tuned.sharpness"} <= set(manifest.thresholds)
    found = {m.name: m for m in manifest.metrics}
    for name in ("accuracy", "macro F1", "macro AP", "micro AP", "weighted AP", "NLL", "Brier", "ECE"):
        assert found[name].n == 20
        assert found[name].ci95 is not None
    assert manifest.supported["classes"] == ["dent", "scratch", "glass_shatter", "lamp_broken", "broken_part"]


def test_the_graph_takes_every_batch_size(room: Path) -> None:
    runner = session(load_pack(room / "models/cropresmoe").read("fp32"))
    for n in BATCHES:
        assert runner.run(["logits"], {"crops": np.zeros((n, 64, 64, 3), np.uint8)})[0].shape == (n, 7)


def test_one_command_writes_one_page_that_needs_nothing_else(room: Path) -> None:
    call(frozen.main, "--data", room / "data", "--out", room / "frozen", "--backbone", "lite0", "--size", 64)
    out = room / "report.html"
    call(report.main, *packs(room), "--results", room / "frozen/results.json", "--out", out)
    page = out.read_text()
    for words in ("micro AP", "load of E5", "Reliability", "tuned tau", "24,833,507", "lite0 frozen", "jittered"):
        assert words in page
    assert page.count("<svg") == 5
    assert "src=" not in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )


def test_the_papers_protocol_takes_the_lowest_category_id_and_its_first_box(tmp_path: Path) -> None:
    names = ("dent", "scratch", "crack", "glass shatter", "lamp broken")
    write_set(tmp_path, {"val": 5}, names)
    path = tmp_path / "damage/val.json"
    raw = json.loads(path.read_text())
    raw["categories"].reverse()  # the order in the file means nothing, the ids do
    for entry in raw["annotations"]:
        if entry["image_id"] == 1:
            entry["category_id"] = 4
    path.write_text(json.dumps(raw))
    labels = load_labels()
    protocol = Protocol(source="cardd", one_a_photo=True)
    coco = read_coco(path, categories=labels.sources["cardd"])
    chosen = [protocol.samples(p, coco.categories) for p in coco.photos]
    assert [len(c) for c in chosen] == [1] * 5
    assert chosen[0][0].box[:2] == (8, 8), "of two boxes with one category the first"
    # photos hold (1, 2), (3, 4), (5, 1), (2, 3), (4, 5); the first was made (4, 4)
    assert [c[0].category for c in chosen] == ["glass shatter", "crack", "dent", "scratch", "glass shatter"]
    crops, _ = load_crops(tmp_path, "val", labels, Cut(64, 0.0, "stretch"), protocol=protocol, wide=False)
    assert len(crops.labels) == 5


def test_a_whole_photo_sample_shows_the_photo_and_a_crop_its_box(tmp_path: Path) -> None:
    write_set(tmp_path, {"val": 1})
    options = {"wide": False, "split": "val", "labels": load_labels(), "cut": Cut(32, 0.0, "stretch")}
    whole, _ = load_crops(tmp_path, protocol=Protocol(whole=True), **options)  # type: ignore[arg-type]
    crop, _ = load_crops(tmp_path, **options)  # type: ignore[arg-type]
    assert np.array_equal(whole.served[0], whole.served[1])
    assert crop.served[0].mean((0, 1)).argmax() == 0, "the first box is red"


def test_confident_answers_become_labels_that_training_takes(room: Path) -> None:
    out = room / "data/damage/pseudo.json"
    classifier, photos = load_pack(room / "models/cropresmoe"), room / "data/damage/val.json"
    every = dict.fromkeys(classifier.manifest.supported["classes"], 0.0)
    made = pseudo.pseudo_labels(classifier, photos, every, load_labels(), out.parent)
    out.write_text(json.dumps(made))
    assert len(made["annotations"]) == 40
    assert {c["name"] for c in made["categories"]} == set(CATEGORIES), "the training source's names, not the classes'"
    sure = pseudo.pseudo_labels(classifier, photos, dict.fromkeys(every, 0.9999), load_labels(), out.parent)
    assert len(sure["annotations"]) < 40
    found = read_coco(out, categories=load_labels().sources["damage6"])
    assert all(a.weak == "pseudo" for p in found.photos for a in p.annotations)
    call(train.main, "--data", room / "data", "--out", room / "again", "--preset", room / "tiny.yaml", "--pseudo", out)


def test_a_class_that_validation_does_not_vouch_for_gets_no_pseudo_labels(room: Path) -> None:
    assert pseudo.thresholds(load_pack(room / "models/cropresmoe"), room / "data", precision=0.9999) == {}


def test_a_student_learns_from_a_teachers_cached_answers(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preset = room / "taught.yaml"
    preset.write_text(PRESET + "teacher: 0.5\n")
    options = ("--data", room / "data", "--out", room / "taught", "--preset", preset)
    with pytest.raises(SystemExit, match="--teacher belong together"):
        call(train.main, *options)
    call(train.main, *options, "--teacher", room / "run")
    assert list((room / "taught").glob("train-*.safetensors"))
    assert (room / "taught/checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda raw: raw["annotations"][3].update(bbox=[5, 5, 0, 9]),
            r"annotation 4 on val-1\.png: .* no area",
        ),
        (
            lambda raw: raw["annotations"][2].update(bbox=[300, 5, 9, 9]),
            r"annotation 3 on val-1\.png: .* out of the",
        ),
        (
            lambda raw: raw["images"][1].update(file_name="gone.png"),
            r"image 2 \(gone\.png\): .* missing",
        ),
        (lambda raw: raw["categories"][0].update(name="hole"), r"categories: 'hole' is none of"),
    ],
)
def test_a_bad_label_file_is_named_before_anything_is_trained(
    tmp_path: Path, change: Callable[[dict[str, list[dict[str, object]]]], None], words: str
) -> None:
    data = write_set(tmp_path / "data", {"train": 2, "val": 2})
    path = data / "damage/val.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    (tmp_path / "tiny.yaml").write_text(PRESET)
    with pytest.raises(SystemExit, match=rf"val\.json has \d problem\(s\):\n  .*{words}"):
        call(train.main, "--data", data, "--out", tmp_path / "run", "--preset", tmp_path / "tiny.yaml")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_architecture_is_named_with_its_first_wrong_entry(room: Path, tmp_path: Path) -> None:
    state = torch.load(room / "run/checkpoint.pt", weights_only=True)
    state["config"]["backbone"] = "lite2"
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(SystemExit, match=r"checkpoint\.pt: not a checkpoint of lite2 with 7 classes: backbone\."):
        call(pack.main, "--run", tmp_path, "--data", room / "data", "--out", tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(SystemExit, match=r"checkpoint\.pt: cannot be read as a checkpoint"):
        call(pack.main, "--run", tmp_path, "--data", room / "data", "--out", tmp_path)


def test_a_label_map_that_differs_is_named_with_its_first_difference(room: Path, tmp_path: Path) -> None:
    state = torch.load(room / "run/checkpoint.pt", weights_only=True)
    state["names"][1] = "hole"
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(SystemExit, match=r"label map is another one: entry 1 is 'hole' there and 'scratch' here"):
        call(pack.main, "--run", tmp_path, "--data", room / "data", "--out", tmp_path)
    found = load_pack(room / "models/cropresmoe")
    classes = ("dent", "crack", *found.manifest.vocabulary.classes[2:])
    other = found.manifest.vocabulary.model_copy(update={"classes": classes})
    foreign = type(found)(found.folder, found.manifest.model_copy(update={"vocabulary": other}))
    with pytest.raises(ValueError, match="class 1 is 'crack' in the pack and 'scratch' there"):
        evaluate.must_know(foreign, load_labels())


def test_a_memory_of_another_backbone_is_refused(room: Path) -> None:
    memory, classifier = load_pack(room / "models/memory"), load_pack(room / "models/cropresmoe").manifest
    assert len(evaluate.read_memory(memory, classifier).label) == 40
    with pytest.raises(ValueError, match="made with another backbone"):
        evaluate.read_memory(memory, classifier.model_copy(update={"backbone": "0" * 64}))


def test_weights_that_are_not_there_are_said_before_any_photo_is_opened(room: Path, tmp_path: Path) -> None:
    args = argparse.Namespace(
        preset=str(room / "tiny.yaml"), minutes=None, teacher=None, pseudo=None, init=None,
        weights=tmp_path / "none.pth", data=tmp_path, out=tmp_path / "run", all_licences=False,
    )  # fmt: skip
    with pytest.raises(FileNotFoundError, match=r"none\.pth: there is no such file of weights"):
        train.run(args)


def test_the_papers_preset_is_valid() -> None:
    config = load_preset(Config, "cropresmoe-50")
    assert (config.backbone, config.source, config.resize, config.gamma) == ("resnet50", "cardd", "stretch", 2.0)
    assert load_preset(Config, "cropresmoe-50-taught").teacher > 0
