"""Strict reader of COCO object-detection files: everything wrong is found before hours of work, not in the middle.

Coordinates are pixels of the stored picture. Labels may reach over the picture's edge a little (outlines drawn by
hand do, by up to 2 px of 512 in the sets this was written for): they are clipped. What reaches further is refused.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from services.common.vision import masks

_MAX_ERRORS = 20
_OVERSHOOT = 0.01  # of the picture's longer side

Polygon = NDArray[np.float64]  # [n, 2], x and y in pixels


class CocoError(ValueError):
    """The data set cannot be used as it is; the message names the file and the first 20 bad entries."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        shown = [*problems[:_MAX_ERRORS]]
        if len(problems) > len(shown):
            shown.append(f"... and {len(problems) - len(shown)} more")
        super().__init__(f"{path} has {len(problems)} problem(s):\n  " + "\n  ".join(shown))
        self.problems = list(problems)


@dataclass(frozen=True)
class Annotation:
    """One labelled region of a photo: a box, and polygons or run lengths where somebody outlined it."""

    id: int
    category: str
    box: tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels, inside the picture
    polygons: tuple[Polygon, ...] = ()
    rle: tuple[tuple[int, int], str] | None = None  # size and COCO's compressed counts
    source_label: str = ""
    weak: str | None = None  # how a label without outline came about, e.g. image_level or box_only
    part: str | None = None

    @property
    def has_mask(self) -> bool:
        return bool(self.polygons) or self.rle is not None


@dataclass(frozen=True)
class Photo:
    """One picture and what is known about it. `ignored`: regions whose label has no category."""

    id: int
    path: Path
    width: int
    height: int
    annotations: tuple[Annotation, ...] = ()
    ignored: tuple[Annotation, ...] = ()
    source: str = ""
    licence: str = ""
    group: int | None = None  # photos that show the same thing share it and never stand in two splits
    negative: str | None = None  # why there is nothing to find here, e.g. undamaged_car
    cardd_like_name: bool = False

    def mask(self, annotation: Annotation, height: int, width: int) -> NDArray[np.bool_]:
        """bool [height, width]: the region on a grid over the whole photo. ValueError where only a box is known."""
        if annotation.rle is not None:
            full = Image.fromarray(masks.decode(*annotation.rle))
            return np.asarray(full.resize((width, height), Image.Resampling.NEAREST), np.bool_)
        if not annotation.polygons:
            raise ValueError(f"annotation {annotation.id} has a box and no mask")
        scale = np.array([width / self.width, height / self.height])
        return rasterise([polygon * scale for polygon in annotation.polygons], height, width)


@dataclass(frozen=True)
class CocoSet:
    """One file: the photos and the category names in the order of their ids."""

    path: Path
    categories: tuple[str, ...]
    photos: tuple[Photo, ...]

    def only(self, keep: Callable[[Photo], bool]) -> CocoSet:
        """The photos for which `keep` is true."""
        return replace(self, photos=tuple(p for p in self.photos if keep(p)))

    def outlined(self) -> CocoSet:
        """The photos on which segmentation can learn: each region has a mask, and an empty photo is empty on purpose.

        A photo with one region known only by its box is left out whole: kept without that region, it would teach that
        nothing is there.
        """
        return self.only(lambda p: all(a.has_mask for a in p.annotations) and bool(p.annotations or p.negative))


def clean_licence(photo: Photo) -> bool:
    """Whether the uploader's CC BY 4.0 can cover this photo: file names of another, closed set cast doubt on some."""
    return photo.source == "bilgi" and not photo.cardd_like_name


def rasterise(polygons: Iterable[Polygon], height: int, width: int) -> NDArray[np.bool_]:
    """Union of polygons [n, 2] (x, y in cells of the grid) -> bool [height, width], by COCO's own rule of edges."""
    flat = [p.ravel().tolist() for p in polygons]
    runs = coco.merge(coco.frPyObjects(flat, height, width))
    return masks.decode((height, width), runs["counts"].decode("ascii"))


def read_coco(path: Path, *, categories: Iterable[str] | None = None) -> CocoSet:
    """Read and check one COCO file; pictures are looked for beside it.

    `categories`: the names that the caller can use; any other is an error. Raises `CocoError` with all problems.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CocoError(path, ["there is no such file"]) from None
    except (OSError, ValueError) as error:
        raise CocoError(path, [f"cannot be read as JSON: {error}"]) from None
    return _Reader(path, raw, None if categories is None else set(categories)).read()


class _Reader:
    """One pass over a file that collects problems instead of stopping at the first."""

    def __init__(self, path: Path, raw: Any, known: set[str] | None) -> None:
        self.path, self.raw, self.known = path, raw, known
        self.problems: list[str] = []

    def read(self) -> CocoSet:
        lists: dict[str, list[dict[str, Any]]] = {}
        for key in ("images", "annotations", "categories", "other"):
            entries = self.raw.get(key, [] if key == "other" else None) if isinstance(self.raw, dict) else None
            if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
                self.problems.append(f"{key}: a list of objects belongs here")
            else:
                lists[key] = entries
        if self.problems:
            raise CocoError(self.path, self.problems)
        for key in ("images", "annotations", "categories"):
            ids = Counter(json.dumps(e.get("id")) for e in lists[key])
            self.problems += [f"{key}: id {i} stands {n} times" for i, n in ids.items() if n > 1]
        names = self._categories(lists["categories"])
        photos = {photo.id: photo for e in lists["images"] if (photo := self._photo(e)) is not None}
        found: dict[int, list[Annotation]] = {i: [] for i in photos}
        ignored: dict[int, list[Annotation]] = {i: [] for i in photos}
        declared = {e.get("id") for e in lists["images"]}
        unmapped = [{**e, "id": -1 - i} for i, e in enumerate(lists["other"])]
        for entry in (*lists["annotations"], *unmapped):
            other = entry["id"] < 0 if isinstance(entry.get("id"), int) else False
            place = f"other[{-1 - entry['id']}]" if other else f"annotation {entry.get('id')}"
            photo = photos.get(entry.get("image_id", -1))
            if photo is None:
                if entry.get("image_id") not in declared:  # a photo with a problem of its own is already named
                    self.problems.append(f"{place}: there is no image {entry.get('image_id')}")
                continue
            if not other and entry.get("category_id") not in names:
                self.problems.append(f"{place}: there is no category {entry.get('category_id')}")
                continue
            category = "" if other else names[entry["category_id"]]
            try:
                annotation = _annotation(entry, category, photo)
            except (KeyError, TypeError, ValueError) as error:
                reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
                self.problems.append(f"{place} on {photo.path.name}: {reason}")
                continue
            (ignored if other else found)[photo.id].append(annotation)
        if self.problems:
            raise CocoError(self.path, self.problems)
        return CocoSet(
            path=self.path,
            categories=tuple(names[i] for i in sorted(names, key=lambda i: i if isinstance(i, int) else 0)),
            photos=tuple(replace(p, annotations=tuple(found[i]), ignored=tuple(ignored[i])) for i, p in photos.items()),
        )

    def _categories(self, entries: list[dict[str, Any]]) -> dict[object, str]:
        names = {e.get("id"): str(e.get("name")) for e in entries}
        for name, n in Counter(names.values()).items():
            if n > 1:
                self.problems.append(f"categories: the name {name!r} stands {n} times")
            if self.known is not None and name not in self.known:
                self.problems.append(f"categories: {name!r} is none of {', '.join(sorted(self.known))}")
        return names

    def _photo(self, entry: dict[str, Any]) -> Photo | None:
        place = f"image {entry.get('id')} ({entry.get('file_name')})"
        try:
            photo = Photo(
                id=int(entry["id"]),
                path=_inside(self.path.parent, str(entry["file_name"])),
                width=int(entry["width"]),
                height=int(entry["height"]),
                source=str(entry.get("source") or ""),
                licence=str(entry.get("licence") or ""),
                group=entry.get("group"),
                negative=entry.get("negative"),
                cardd_like_name=bool(entry.get("cardd_like_name")),
            )
            with Image.open(photo.path) as picture:  # reads the header only
                if picture.size != (photo.width, photo.height):
                    size, said = f"{picture.width} x {picture.height}", f"{photo.width} x {photo.height}"
                    raise ValueError(f"the picture is {size}, the entry says {said}")
        except KeyError as error:
            self.problems.append(f"{place}: {error} is missing")
        except FileNotFoundError:
            self.problems.append(f"{place}: the picture file is missing")
        except (OSError, TypeError, ValueError) as error:
            self.problems.append(f"{place}: {error}")
        else:
            return photo
        return None


def _inside(folder: Path, name: str) -> Path:
    """The picture's path; a name that leads out of the data set's folder is refused."""
    path = folder / name
    if Path(name).is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError("the file name leads out of the folder")
    return path


def _annotation(entry: dict[str, Any], category: str, photo: Photo) -> Annotation:
    x, y, w, h = (float(v) for v in entry["bbox"])
    if not (w > 0 and h > 0):
        raise ValueError(f"the box {entry['bbox']} has no area")
    corners = _clip(np.array([[x, y], [x + w, y + h]]), photo, "box")
    segmentation = entry.get("segmentation") or []
    polygons: list[Polygon] = []
    rle = None
    if isinstance(segmentation, dict):
        rle = _rle(segmentation, photo)
    else:
        for i, flat in enumerate(segmentation):
            if len(flat) < 6 or len(flat) % 2:
                raise ValueError(f"polygon {i} has {len(flat)} numbers; three corners take six")
            polygons.append(_clip(np.array(flat, np.float64).reshape(-1, 2), photo, f"polygon {i}"))
        if polygons and not any(_area(p) > 0 for p in polygons):
            raise ValueError("the polygons have no area")
    return Annotation(
        id=int(entry["id"]),
        category=category,
        box=(float(corners[0, 0]), float(corners[0, 1]), float(corners[1, 0]), float(corners[1, 1])),
        polygons=tuple(polygons),
        rle=rle,
        source_label=str(entry.get("source_label") or ""),
        weak=entry.get("weak"),
        part=entry.get("part"),
    )


def _rle(segmentation: dict[str, Any], photo: Photo) -> tuple[tuple[int, int], str]:
    height, width = segmentation["size"]
    counts = segmentation["counts"]
    if (height, width) != (photo.height, photo.width):
        raise ValueError(f"the mask is {width} x {height} on a picture of {photo.width} x {photo.height}")
    if not isinstance(counts, str):
        raise ValueError("the mask's counts are not COCO's compressed string")
    if not masks.decode((height, width), counts).any():
        raise ValueError("the mask is empty")
    return (height, width), counts


def _clip(points: Polygon, photo: Photo, what: str) -> Polygon:
    limit = np.array([photo.width, photo.height], np.float64)
    over = float(np.maximum(-points, points - limit).max())
    if not over <= max(2.0, _OVERSHOOT * limit.max()):  # also false for NaN
        raise ValueError(f"the {what} reaches {over:.1f} px out of the picture")
    clipped: Polygon = np.clip(points, 0, limit)
    if what == "box" and (clipped[1] <= clipped[0]).any():
        raise ValueError("the box lies outside the picture")
    return clipped


def _area(polygon: Polygon) -> float:
    x, y = polygon.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)
