"""A COCO file is read whole or refused with the names of its bad entries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from export.data.coco import CocoError, rasterise, read_coco
from export.data.coco_writer import CocoWriter, Region
from export.data.splits import leaks, summary

REAL = Path(__file__).parents[3] / "shared" / "data"


def _content() -> dict[str, Any]:
    square = [10, 10, 30, 10, 30, 30, 10, 30]
    return {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 80, "height": 60, "source": "bilgi", "group": 7},
            {"id": 2, "file_name": "b.png", "width": 80, "height": 60, "negative": "undamaged_car", "group": 8},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "segmentation": [square]},
        ],
        "categories": [{"id": 1, "name": "dent"}, {"id": 2, "name": "scratch"}],
    }


def _write(folder: Path, content: dict[str, Any], name: str = "train.json") -> Path:
    for image in ("a.png", "b.png"):
        Image.new("RGB", (80, 60)).save(folder / image)
    path = folder / name
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_a_good_file_is_read_with_what_is_known_about_its_photos(tmp_path: Path) -> None:
    data = read_coco(_write(tmp_path, _content()), categories=["dent", "scratch"])
    damaged, clean = data.photos
    assert (damaged.source, damaged.group, clean.negative) == ("bilgi", 7, "undamaged_car")
    (dent,) = damaged.annotations
    assert (dent.category, dent.box) == ("dent", (10, 10, 30, 30))
    assert damaged.mask(dent, 60, 80).sum() == 400
    assert damaged.mask(dent, 30, 40).sum() == 100


def _annotation(field: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["annotations"][0].update({field: value})


def _image(field: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["images"][0].update({field: value})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_image("file_name", "gone.png"), "image 1 (gone.png): the picture file is missing"),
        (_image("file_name", "../a.png"), "image 1 (../a.png): the file name leads out of the folder"),
        (_image("width", 81), "image 1 (a.png): the picture is 80 x 60, the entry says 81 x 60"),
        (_image("id", 2), "images: id 2 stands 2 times"),
        (lambda c: c["images"][0].pop("height"), "image 1 (a.png): 'height' is missing"),
        (_annotation("bbox", [10, 10, 0, 20]), "annotation 1 on a.png: the box [10, 10, 0, 20] has no area"),
        (_annotation("bbox", [10, 10, 90, 20]), "annotation 1 on a.png: the box reaches 20.0 px out of the picture"),
        (_annotation("bbox", None), "annotation 1 on a.png"),
        (_annotation("segmentation", [[1, 1, 5, 5]]), "annotation 1 on a.png: polygon 0 has 4 numbers"),
        (_annotation("segmentation", [[1, 1, 5, 5, 9, 9]]), "annotation 1 on a.png: the polygons have no area"),
        (_annotation("segmentation", [[-9, 1, 5, 5, 9, 1]]), "polygon 0 reaches 9.0 px out of the picture"),
        (_annotation("segmentation", [[float("nan"), 1, 5, 5, 9, 1]]), "polygon 0 reaches nan px"),
        (_annotation("segmentation", {"size": [9, 9], "counts": "0"}), "the mask is 9 x 9 on a picture of 80 x 60"),
        (_annotation("segmentation", {"size": [60, 80], "counts": "05"}), "the mask's runs do not fill"),
        (_annotation("category_id", 9), "annotation 1: there is no category 9"),
        (_annotation("image_id", 9), "annotation 1: there is no image 9"),
        (lambda c: c["categories"].append({"id": 3, "name": "rost"}), "'rost' is none of dent, scratch"),
        (lambda c: c.update(annotations={}), "annotations: a list of objects belongs here"),
    ],
)
def test_a_bad_entry_is_named(edit: Callable[[dict[str, Any]], None], message: str, tmp_path: Path) -> None:
    content = _content()
    edit(content)
    path = _write(tmp_path, content)
    with pytest.raises(CocoError) as error:
        read_coco(path, categories=["dent", "scratch"])
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_many_bad_entries_are_told_at_once_but_not_endlessly(tmp_path: Path) -> None:
    content = _content()
    first = content["annotations"][0]
    content["annotations"] = [{**first, "id": i, "bbox": [0, 0, 0, 0]} for i in range(50)]
    with pytest.raises(CocoError, match=r"and 30 more") as error:
        read_coco(_write(tmp_path, content))
    assert len(error.value.problems) == 50


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_file_that_is_no_coco_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CocoError):
        read_coco(path)
    with pytest.raises(CocoError, match="no such file"):
        read_coco(tmp_path / "other.json")


def test_an_outline_slightly_over_the_edge_is_clipped(tmp_path: Path) -> None:
    content = _content()
    content["annotations"][0].update(bbox=[70, 10, 11.5, 20], segmentation=[[70, 10, 81.5, 10, 81.5, 30, 70, 30]])
    photo = read_coco(_write(tmp_path, content)).photos[0]
    assert photo.annotations[0].box == (70, 10, 80, 30)
    assert photo.mask(photo.annotations[0], 60, 80).sum() == 200


def test_a_photo_known_only_by_boxes_teaches_no_segmentation(tmp_path: Path) -> None:
    content = _content()
    content["annotations"].append(
        {"id": 2, "image_id": 1, "category_id": 2, "bbox": [0, 0, 80, 60], "segmentation": [], "weak": "image_level"}
    )
    data = read_coco(_write(tmp_path, content))
    assert [p.path.name for p in data.outlined().photos] == ["b.png"]
    with pytest.raises(ValueError, match="a box and no mask"):
        data.photos[0].mask(data.photos[0].annotations[1], 60, 80)


def test_labels_without_category_are_kept_as_regions_to_ignore(tmp_path: Path) -> None:
    content = _content()
    content["other"] = [{"image_id": 2, "source_label": "airbag", "bbox": [5, 5, 9, 9], "segmentation": []}]
    photo = read_coco(_write(tmp_path, content)).photos[1]
    assert [a.source_label for a in photo.ignored] == ["airbag"]
    assert photo.annotations == ()


def test_what_is_written_is_read_back_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    mask = rng.random((40, 50)) < 0.3
    writer = CocoWriter(tmp_path, [("dent", "damage"), ("hood", "part")])
    regions = [Region("dent", mask, "hood"), Region("hood", np.zeros((40, 50), np.bool_))]
    writer.add("one", pixels, regions, {"source": "toycar"})
    (photo,) = read_coco(writer.close("a test"), categories=["dent", "hood"]).photos
    assert np.array_equal(np.asarray(Image.open(photo.path)), pixels)
    (dent,) = photo.annotations  # an empty mask is no region
    assert (dent.part, photo.source) == ("hood", "toycar")
    assert np.array_equal(photo.mask(dent, 40, 50), mask)


def test_rasterise_is_the_union_of_its_polygons() -> None:
    a = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], np.float64)
    assert rasterise([a, a + 2], 8, 8).sum() == 28


def test_a_group_in_two_splits_is_found(tmp_path: Path) -> None:
    content = _content()
    train = read_coco(_write(tmp_path, content))
    content["images"] = [{**content["images"][0], "group": 8}]
    test = read_coco(_write(tmp_path, content, "test.json"))
    assert leaks([train, test]) == [
        "group 8 stands in train.json and test.json",
        "a.png stands in train.json and test.json",
    ]
    assert "train.json" in summary([train, test])


@pytest.mark.skipif(not REAL.exists(), reason="the real photos are not on this machine")
@pytest.mark.parametrize("kind", ["damage", "parts"])
def test_the_real_splits_are_clean_and_apart(kind: str) -> None:
    sets = [read_coco(REAL / kind / f"{split}.json") for split in ("train", "val", "test")]
    assert leaks(sets) == []
    assert all(s.outlined().photos for s in sets)
