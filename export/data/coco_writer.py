"""Writes pictures and masks as a COCO file that `read_coco` reads back: lossless, run-length encoded masks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.common.vision import masks


@dataclass(frozen=True)
class Region:
    """One region to write: a category name, its mask bool [h, w] and, for a damage, the part it lies on."""

    category: str
    mask: NDArray[np.bool_]
    part: str | None = None


class CocoWriter:
    """Collects pictures in `folder`/images and writes `folder`/`name` once, at `close`.

    `categories`: (name, supercategory) in id order, ids from 1.
    """

    def __init__(self, folder: Path, categories: Iterable[tuple[str, str]], name: str = "annotations.json") -> None:
        self.path = folder / name
        (folder / "images").mkdir(parents=True, exist_ok=True)
        self._categories = [{"id": i, "name": n, "supercategory": s} for i, (n, s) in enumerate(categories, start=1)]
        self._ids = {c["name"]: c["id"] for c in self._categories}
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(
        self, name: str, pixels: NDArray[np.uint8], regions: Iterable[Region], extra: Mapping[str, Any] | None = None
    ) -> None:
        """Write `pixels` [h, w, 3] as images/`name`.png with its regions; empty masks are left out."""
        height, width = pixels.shape[:2]
        file_name = f"images/{name}.png"
        Image.fromarray(pixels).save(self.path.parent / file_name)
        image_id = len(self._images) + 1
        entry = {"id": image_id, "file_name": file_name, "width": width, "height": height}
        self._images.append({**entry, **(extra or {})})
        for region in regions:
            if not region.mask.any():
                continue
            size, counts = masks.encode(region.mask)
            x0, y0, x1, y1 = masks.tight_box(region.mask)
            box = [x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height]
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": image_id,
                    "category_id": self._ids[region.category],
                    "bbox": [round(v, 3) for v in box],
                    "area": int(region.mask.sum()),
                    "segmentation": {"size": list(size), "counts": counts},
                    "iscrowd": 0,
                    "part": region.part,
                }
            )

    def close(self, description: str) -> Path:
        """Write the file; returns its path."""
        content = {
            "info": {"description": description},
            "images": self._images,
            "annotations": self._annotations,
            "categories": self._categories,
        }
        self.path.write_text(json.dumps(content), encoding="utf-8")
        return self.path
