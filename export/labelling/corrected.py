"""Corrections back in: `python -m export.labelling.corrected --file tasks.json --pictures FOLDER --out DATA`.

Reads Label Studio's JSON export or a COCO file and writes DATA/damage/reviewed.json with its pictures beside it: a
split that the trainers of export/ read. Everything wrong is reported before anything is written.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

from PIL import Image

from export.albert.dataset import DAMAGES
from export.data.coco import CocoError, read_coco
from export.labelling.regions import Labelled, Region
from export.labelling.tasks import coco
from export.labels import load_labels
from services.common.vision.photo import PhotoError, open_photo

SPLIT = "reviewed"


def read(path: Path, pictures: Path, classes: dict[str, str]) -> list[Labelled]:
    """Corrected pictures of either format; `classes`: category name -> class. Raises CocoError with all problems."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CocoError(path, [f"cannot be read as JSON: {error}"]) from None
    if isinstance(content, list):
        return _label_studio(path, content, pictures, set(classes.values()))
    found = []
    for photo in read_coco(path, categories=classes).photos:
        scale = (photo.width, photo.height) * 2
        labels = [
            Region(tuple(v / s for v, s in zip(a.box, scale, strict=True)), classes[a.category])  # type: ignore[arg-type]
            for a in photo.annotations
        ]
        found.append(Labelled(photo.path.relative_to(path.parent).as_posix(), photo.width, photo.height, tuple(labels)))
    return found


def _label_studio(path: Path, tasks: list[Any], pictures: Path, classes: set[str]) -> list[Labelled]:
    """Tasks that somebody has annotated; the newest annotation of each counts, cancelled ones do not."""
    found, problems = [], []
    for number, task in enumerate(tasks):
        try:
            made = [a for a in task["annotations"] if not a.get("was_cancelled")]
            if not made:
                continue
            name = task["data"].get("file") or parse_qs(urlparse(task["data"]["image"]).query)["d"][0]
            picture = (pictures / name).resolve()
            if not picture.is_relative_to(pictures.resolve()):
                raise ValueError("the picture's name leads out of the folder")
            photo = open_photo(picture.read_bytes())
            labels = tuple(_region(r, classes) for r in made[-1]["result"] if r.get("type") == "rectanglelabels")
            found.append(Labelled(name, photo.width, photo.height, labels))
        except (KeyError, TypeError, IndexError, AttributeError, ValueError, OSError, PhotoError) as error:
            problems.append(f"task {number}: {f'{error} is missing' if isinstance(error, KeyError) else error}")
    if problems:
        raise CocoError(path, problems)
    return found


def _region(result: dict[str, Any], classes: set[str]) -> Region:
    value = result["value"]
    (name,) = value["rectanglelabels"]
    if name not in classes:
        raise ValueError(f"{name!r} is none of {', '.join(sorted(classes))}")
    x, y, w, h = (float(value[key]) / 100 for key in ("x", "y", "width", "height"))
    if value.get("rotation"):
        raise ValueError("a box is rotated; export/ takes upright boxes")
    if not (w > 0 and h > 0 and x >= -0.01 and y >= -0.01 and x + w <= 1.01 and y + h <= 1.01):
        raise ValueError("a box lies outside the picture or has no area")
    return Region((max(x, 0.0), max(y, 0.0), min(x + w, 1.0), min(y + h, 1.0)), name)


def write(found: list[Labelled], pictures: Path, out: Path, categories: dict[str, str]) -> Path:
    """The split and its pictures; the file appears when all of them are there."""
    folder = out / "damage"
    kept = []
    for number, picture in enumerate(found):
        target = folder / SPLIT / f"{number:06}{Path(picture.file).suffix.lower()}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pictures / picture.file, target)
        with Image.open(target) as opened:
            width, height = opened.size
        kept.append(Labelled(target.relative_to(folder).as_posix(), width, height, picture.labels))
    content = coco(kept, categories)
    beside = folder / f".{SPLIT}.json"
    beside.write_text(json.dumps(content), encoding="utf-8")
    return beside.replace(folder / f"{SPLIT}.json")


def main() -> None:
    parser = argparse.ArgumentParser(description="Corrected labels as a split that export/ trains on.")
    parser.add_argument("--file", type=Path, required=True, help="Label Studio's JSON export, or COCO")
    parser.add_argument("--pictures", type=Path, help="their folder (COCO: beside the file)")
    parser.add_argument("--out", type=Path, required=True, help="data folder to write damage/reviewed.json into")
    args = parser.parse_args()
    categories = {source.serves: name for name, source in load_labels().sources[DAMAGES].items() if source.serves}
    pictures = args.pictures or args.file.parent
    try:
        found = read(args.file, pictures, {name: served for served, name in categories.items()})
        path = write(found, pictures, args.out, categories)
        read_coco(path)
    except CocoError as error:
        parser.exit(1, f"{error}\n")
    print(f"{len(found)} pictures with {sum(len(p.labels) for p in found)} labels in {path}.")


if __name__ == "__main__":
    main()
