"""The two files that labelling tools read: COCO with confidences, and Label Studio tasks with predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from export.labelling.regions import Labelled, Region

LABEL_STUDIO_CONFIG = """<View>
  <Image name="image" value="$image" zoom="true"/>
  <RectangleLabels name="label" toName="image">
{labels}
  </RectangleLabels>
</View>
"""


def coco(pictures: Sequence[Labelled], categories: Mapping[str, str]) -> dict[str, Any]:
    """COCO with `score` and `source` beside each annotation; `categories`: class -> category name in the file.

    Regions without a name stand in `other`: trainers take them neither for a damage nor for none.
    """
    ids = {name: i for i, name in enumerate(dict.fromkeys(categories.values()), start=1)}
    annotations: list[dict[str, Any]] = []
    other: list[dict[str, Any]] = []
    for image_id, picture in enumerate(pictures, start=1):
        for label in picture.labels:
            x0, y0, x1, y1 = label.box
            box = [x0 * picture.width, y0 * picture.height, (x1 - x0) * picture.width, (y1 - y0) * picture.height]
            entry: dict[str, Any] = {
                "image_id": image_id,
                "bbox": [round(v, 2) for v in box],
                "area": round(box[2] * box[3], 2),
                "iscrowd": 0,
                "score": label.confidence,
                "source": label.source,
                **({"part": label.part} if label.part else {}),
                **(_outline(label, picture) if label.polygons else {"weak": "box_only"}),
            }
            if label.name:
                category = ids[categories[label.name]]
                annotations.append({"id": len(annotations) + 1, "category_id": category, **entry})
            else:
                other.append(entry)
    return {
        "images": [
            {"id": i, "file_name": p.file, "width": p.width, "height": p.height, **_told(p)}
            for i, p in enumerate(pictures, start=1)
        ],
        "annotations": annotations,
        "other": other,
        "categories": [{"id": i, "name": name} for name, i in ids.items()],
    }


def _told(picture: Labelled) -> dict[str, Any]:
    told = {"group": picture.group, "negative": picture.negative}
    return {name: value for name, value in told.items() if value is not None}


def _outline(region: Region, picture: Labelled) -> dict[str, Any]:
    scale = (picture.width, picture.height)
    rings = [[round(v * s, 2) for point in ring for v, s in zip(point, scale, strict=True)] for ring in region.polygons]
    return {"segmentation": rings}


def label_studio(pictures: Sequence[Labelled], version: str) -> list[dict[str, Any]]:
    """Tasks that Label Studio imports, its local-files address for each picture; coordinates in percent."""
    return [
        {
            "data": {"image": f"/data/local-files/?d={picture.file}", "file": picture.file},
            "predictions": [{"model_version": version, "result": [_result(r, picture) for r in picture.labels]}],
        }
        for picture in pictures
    ]


def _result(region: Region, picture: Labelled) -> dict[str, Any]:
    x0, y0, x1, y1 = (100 * v for v in region.box)
    box = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "rotation": 0}
    return {
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": picture.width,
        "original_height": picture.height,
        "score": region.confidence,
        "meta": {"text": [region.source]},
        "value": {**box, "rectanglelabels": [region.name]},
    }
