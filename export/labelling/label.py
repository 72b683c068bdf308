"""Label pictures half by machine: `python -m export.labelling.label --pictures FOLDER --out OUT`.

Writes OUT/coco.json (for export/), OUT/tasks.json and OUT/config.xml (for Label Studio) and, with --draw, annotated
pictures. Stopped anywhere, the same command goes on where it was: OUT/done.jsonl has a line per finished picture.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from export.albert.dataset import DAMAGES
from export.data.coco import read_coco
from export.labelling.labeller import Labeller
from export.labelling.regions import Box, Labelled, Region
from export.labelling.tasks import LABEL_STUDIO_CONFIG, coco, label_studio
from export.labels import load_labels
from services.common.serving.modelpack import load_pack
from services.common.vision.overlay import Kind, OverlayItem, draw_overlay
from services.common.vision.photo import Photo, PhotoError, open_photo

_KINDS: dict[str, Kind] = {"model": "damage", "blended": "damage", "review": "review"}
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif"}


def pictures_of(folder: Path) -> Iterator[tuple[str, None]]:
    """Every picture under `folder`, by its relative name."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _SUFFIXES and path.is_file():
            yield path.relative_to(folder).as_posix(), None


def boxes_of(path: Path) -> Iterator[tuple[str, list[Box]]]:
    """Pictures of a COCO file with their boxes, whatever these are called there."""
    for photo in read_coco(path).photos:
        scale = (photo.width, photo.height) * 2
        boxes = [tuple(v / s for v, s in zip(a.box, scale, strict=True)) for a in (*photo.annotations, *photo.ignored)]
        yield photo.path.relative_to(path.parent).as_posix(), boxes  # type: ignore[misc]


def read_done(path: Path) -> dict[str, Labelled]:
    """What an earlier run has finished; a line that was cut off with it does not count."""
    done: dict[str, Labelled] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        labels = tuple(Region(**{**label, "box": tuple(label["box"])}) for label in entry.pop("labels"))
        done[entry["file"]] = Labelled(**entry, labels=labels)
    return done


def run(
    labeller: Labeller, folder: Path, given: Sequence[tuple[str, list[Box] | None]], out: Path, *, draw: bool
) -> list[str]:
    """Label what is not done yet; answers the pictures that could not be read."""
    done, bad = read_done(out / "done.jsonl"), []
    with (out / "done.jsonl").open("a", encoding="utf-8") as log:
        log.write("\n" if done else "")  # after a line that was cut off
        for name, boxes in tqdm([entry for entry in given if entry[0] not in done], desc="label", unit="picture"):
            try:
                photo = open_photo((folder / name).read_bytes())
            except (PhotoError, OSError) as error:
                bad.append(f"{name}: {error}")
                continue
            labels = labeller.label(photo.pixels, labeller.regions(photo.pixels) if boxes is None else boxes)
            if draw:
                _draw(out / "annotated" / f"{name}.webp", photo, labels)
            log.write(json.dumps(asdict(Labelled(name, photo.width, photo.height, tuple(labels)))) + "\n")
            log.flush()
    return bad


def write(out: Path, version: str) -> list[Labelled]:
    """The files for labelling tools, from everything that is done."""
    pictures = [entry for _, entry in sorted(read_done(out / "done.jsonl").items())]
    categories = {source.serves: name for name, source in load_labels().sources[DAMAGES].items() if source.serves}
    labels = "\n".join(f'    <Label value="{name}"/>' for name in categories)
    (out / "coco.json").write_text(json.dumps(coco(pictures, categories)), encoding="utf-8")
    (out / "tasks.json").write_text(json.dumps(label_studio(pictures, version)), encoding="utf-8")
    (out / "config.xml").write_text(LABEL_STUDIO_CONFIG.format(labels=labels), encoding="utf-8")
    return pictures


def _draw(path: Path, photo: Photo, regions: list[Region]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    items = [OverlayItem(r.box, f"{r.name} {r.confidence:.0%}", _KINDS[r.source]) for r in regions]
    path.write_bytes(draw_overlay(photo.pixels, items))


def main() -> None:
    parser = argparse.ArgumentParser(description="Name damages on unlabelled pictures, for people to check.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--pictures", type=Path, help="folder of photos; with --crops each is one damage")
    source.add_argument("--coco", type=Path, help="COCO file whose boxes are to be named")
    parser.add_argument("--crops", action="store_true", help="the pictures are crops already: nothing is segmented")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--draw", action="store_true", help="annotated pictures as well")
    parser.add_argument("--classifier", type=Path, default=Path("models/cropresmoe"))
    parser.add_argument("--memory", type=Path, default=Path("models/memory"))
    parser.add_argument("--segmenter", type=Path, default=Path("models/albert"))
    args = parser.parse_args()
    finds = args.pictures is not None and not args.crops
    classifier = load_pack(args.classifier)
    labeller = Labeller(classifier, load_pack(args.memory), load_pack(args.segmenter) if finds else None)
    given = list(pictures_of(args.pictures) if args.pictures else boxes_of(args.coco))
    args.out.mkdir(parents=True, exist_ok=True)
    bad = run(labeller, args.pictures or args.coco.parent, given, args.out, draw=args.draw)
    done = write(args.out, f"{classifier.manifest.name} {classifier.manifest.version}")
    sources = [label.source for picture in done for label in picture.labels]
    counts = ", ".join(f"{n} {name}" for name, n in Counter(sources).most_common())
    print(f"{len(done)} pictures, {len(sources)} regions: {counts}. In {args.out}.")
    for problem in bad:
        print(f"left out: {problem}")


if __name__ == "__main__":
    main()
