"""Masks at a photo's own size, run by run: no grid of millions of cells is made."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from services.common.vision import masks

Ints = NDArray[np.int64]


def enlarged(size: tuple[int, int], counts: str, height: int, width: int) -> tuple[str, int]:
    """COCO compressed run lengths of the mask on [height, width], and how many cells of it are set.

    Nearest neighbour: cell (y, x) is that of (y * h // height, x * w // width). `size` = (h, w), each at most the new
    one.
    """
    grid = masks.decode(size, counts)
    h, w = grid.shape
    columns: list[Ints] = []  # of each column of the small grid: where the value changes, in cells of the new height
    for column in grid.T:
        padded = np.concatenate(([False], column, [False]))
        changes = np.flatnonzero(padded[1:] != padded[:-1])
        columns.append(-(-changes * height // h))  # the first row whose source is that cell
    sources = np.arange(width) * w // width
    turns = [x * height + columns[source] for x, source in enumerate(sources)]
    edges = np.concatenate(turns) if turns else np.zeros(0, np.int64)
    # A run that ends with its column and goes on in the next one is one run: both edges stand at the same place.
    _, first, times = np.unique(edges, return_index=True, return_counts=True)
    edges = edges[first[times == 1]]
    runs = np.diff(np.concatenate(([0], edges, [height * width])))
    packed = coco.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
    return cast(bytes, packed["counts"]).decode("ascii"), int(runs[1::2].sum())
