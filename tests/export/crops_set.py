"""A labelled set in the folder layout of the trainers: coloured shapes that a classifier learns within an epoch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CATEGORIES = ("dent", "scratch", "crack", "glass_shatter", "lamp_broken")
COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40), (40, 200, 200))
SIDE = 96


def write_set(data: Path, photos: dict[str, int], categories: tuple[str, ...] = CATEGORIES) -> Path:
    """`<data>/damage/{split}.json` with two boxes a photo, classes taking turns; answers `data`."""
    rng = np.random.default_rng(0)
    folder = data / "damage"
    folder.mkdir(parents=True)
    for split, count in photos.items():
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for i in range(count):
            pixels = rng.integers(90, 130, (SIDE, SIDE, 3)).astype(np.uint8)
            for j, (x, y) in enumerate(((8, 8), (50, 50))):
                c = (2 * i + j) % len(categories)
                pixels[y : y + 36, x : x + 36] = np.clip(
                    np.array(COLOURS[c]) + rng.integers(-20, 20, (36, 36, 3)), 0, 255
                )
                polygon = [x, y, x + 36, y, x + 36, y + 36, x, y + 36]
                entry = {"id": len(annotations) + 1, "image_id": i + 1, "category_id": c + 1}
                annotations.append({**entry, "bbox": [x, y, 36, 36], "segmentation": [polygon]})
            name = f"{split}-{i}.png"
            Image.fromarray(pixels).save(folder / name)
            images.append({"id": i + 1, "file_name": name, "width": SIDE, "height": SIDE, "source": "bilgi"})
        named = [{"id": i, "name": n} for i, n in enumerate(categories, start=1)]
        text = json.dumps({"images": images, "annotations": annotations, "categories": named})
        (folder / f"{split}.json").write_text(text, encoding="utf-8")
    return data
