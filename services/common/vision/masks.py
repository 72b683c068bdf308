"""Masks: bool [h, w] grids over the whole photo. Run-length encoding, geometry, suppression and connected pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from services.common.vision.outlines import polygon

__all__ = [
    "area_share",
    "components",
    "decode",
    "encode",
    "encoded_share",
    "groups",
    "labelled_components",
    "mask_nms",
    "overlap",
    "polygon",
    "tight_box",
    "without_specks",
]

Bools = NDArray[np.bool_]

_MAX_CELLS = 50_000_000  # of a mask from outside: as many as a photo may have pixels
_MAX_CODES = 7  # five bits each: more than enough for a run of _MAX_CELLS


def encode(mask: Bools) -> tuple[tuple[int, int], str]:
    """bool [h, w] -> ((h, w), counts): COCO's compressed run-length encoding."""
    if mask.ndim != 2 or mask.size == 0:
        raise ValueError(f"a mask is a [height, width] grid of at least one cell, not {list(mask.shape)}")
    counts: bytes = coco.encode(np.asfortranarray(mask, np.uint8))["counts"]
    height, width = mask.shape
    return (height, width), counts.decode("ascii")


def decode(size: Sequence[int], counts: str) -> Bools:
    """The inverse of `encode` -> bool [h, w]. ValueError where the runs are malformed or do not fill the grid.

    Reads the runs in NumPy: pycocotools trusts its input and reads past the end of a cut string.
    """
    height, width = size
    if height < 1 or width < 1 or height * width > _MAX_CELLS:
        raise ValueError(f"the mask's size {height} x {width} is out of range")
    runs = _runs(counts)
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"the mask's runs do not fill its {height} x {width} grid")
    values = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)  # COCO runs go down the columns


def encoded_share(size: Sequence[int], counts: str) -> float:
    """`area_share` of an encoded mask of our own, without drawing it: its runs are trusted."""
    return float(_runs(counts)[1::2].sum() / (size[0] * size[1]))


def _runs(counts: str) -> NDArray[np.int64]:
    """Lengths of the runs, beginning with one of zeros.

    Characters from '0' on carry five bits each, least first; bit 5 says that more follow, bit 4 of the last is the
    sign. From the fourth run on, the difference to the run two before is stored.
    """
    codes = np.frombuffer(counts.encode("ascii", "replace"), np.uint8).astype(np.int64) - ord("0")
    last = codes & 0x20 == 0
    if len(codes) == 0 or codes.min() < 0 or codes.max() > 0x3F or not last[-1]:
        raise ValueError("the mask's counts are no COCO run-length encoding")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _MAX_CODES:
        raise ValueError("the mask's counts hold a run that is longer than any photo")
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 0x1F) << (5 * place), starts)
    runs -= np.where(codes[ends] & 0x10, np.int64(1) << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def tight_box(mask: Bools) -> tuple[float, float, float, float]:
    """Normalised (x0, y0, x1, y1) around all true cells. ValueError for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) == 0:
        raise ValueError("an empty mask has no box")
    height, width = mask.shape
    x0, x1 = columns[0] / width, (columns[-1] + 1) / width
    y0, y1 = rows[0] / height, (rows[-1] + 1) / height
    return float(x0), float(y0), float(x1), float(y1)


def area_share(mask: Bools) -> float:
    """Share of the photo that the mask covers, in [0, 1]."""
    return float(mask.mean())


def overlap(a: Bools, b: Bools) -> NDArray[np.float32]:
    """Intersections in cells between all of `a` [n, h, w] and `b` [m, h, w] -> [n, m], exact up to 2**24 cells."""
    cells = int(np.prod(a.shape[1:]))
    left = a.reshape(len(a), cells).astype(np.float32)
    # With themselves half the products are enough, as BLAS knows once it sees the same array twice.
    return left @ (left if b is a else b.reshape(len(b), cells).astype(np.float32)).T


def mask_nms(
    masks: Bools, scores: NDArray[np.float32], threshold: float, labels: Sequence[object] | None = None
) -> NDArray[np.int64]:
    """Indices of the kept among bool [n, h, w], best score first (ALBERT eq. 10).

    A mask is dropped where its IoU with a kept one reaches `threshold`; with `labels`, only if they are the same.
    """
    packed = np.packbits(masks, axis=-1)
    area = _count(packed)
    kept: list[int] = []
    waiting = np.argsort(-scores, kind="stable")
    while len(waiting):
        best, waiting = int(waiting[0]), waiting[1:]
        kept.append(best)
        both = _count(packed[best] & packed[waiting])
        # IoU >= t, without dividing: two empty masks do not overlap
        clash = (both >= threshold * (area[best] + area[waiting] - both)) & (both > 0)
        if labels is not None:
            clash &= np.array([labels[other] == labels[best] for other in waiting.tolist()], bool)
        waiting = waiting[~clash]
    return np.array(kept, np.int64)


def _count(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Cells of masks whose rows are packed bits, [n, h, bytes] -> [n]."""
    return np.asarray(np.bitwise_count(packed).sum((1, 2), dtype=np.int64), np.float32)


def components(mask: Bools, min_share: float) -> list[Bools]:
    """The connected pieces (cells that touch, corners included) covering at least `min_share` of the photo.

    Largest first.
    """
    return labelled_components(np.where(mask, 0, -1), 1, min_share)[0]


def labelled_components(labels: NDArray[np.int64], n: int, min_share: float) -> list[list[Bools]]:
    """`components` of every label 0 .. n - 1 of a map [h, w] in one pass; cells below 0 belong to none."""
    runs = _connected(labels)
    large = np.flatnonzero((runs.areas > 0) & (runs.areas >= min_share * labels.size))
    found: list[list[Bools]] = [[] for _ in range(n)]
    for root in large[np.argsort(-runs.areas[large], kind="stable")]:
        found[runs.labels[root]].append(runs.drawn(runs.piece == root))
    return found


def without_specks(mask: Bools, min_share: float) -> Bools:
    """The mask without the connected pieces that are smaller than `min_share` of its largest one."""
    runs = _connected(np.where(mask, 0, -1))
    return runs.drawn(runs.areas[runs.piece] >= min_share * runs.areas.max(initial=0))


@dataclass(frozen=True, eq=False, slots=True)
class _Runs:
    """A label map as runs of cells of one label along its rows: a few hundred where a map has a million cells.

    `starts` and `ends` [n] count cells row by row, with one more cell than the map has at the end of each row.
    `labels` [n] is a run's label, `piece` [n] the number of its connected piece (that of its first run), `areas` [n]
    the cells of each number (0 where there is none).
    """

    shape: tuple[int, int]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    labels: NDArray[np.int64]
    piece: NDArray[np.int64]
    areas: NDArray[np.int64]

    def drawn(self, chosen: Bools) -> Bools:
        """The chosen runs [n] as a mask."""
        height, stride = self.shape[0], self.shape[1] + 1
        turns = np.stack([self.starts[chosen], self.ends[chosen]], 1).ravel()  # from false to true and back again
        lengths = np.diff(turns, prepend=0, append=height * stride)
        return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, stride)[:, :-1]


def _connected(labels: NDArray[np.int64]) -> _Runs:
    height, width = labels.shape
    stride = width + 1  # one cell of no label ends each row, so that no run goes on into the next
    cells = np.full((height, stride), -1, np.int64)
    cells[:, :width] = labels
    flat = cells.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts, ends = np.concatenate([[0], edges]), np.concatenate([edges, [flat.size]])
    inside = flat[starts] >= 0
    starts, ends = starts[inside], ends[inside]
    label = flat[starts]
    # Run i touches run j of the next row where they overlap or meet at a corner.
    first = np.searchsorted(ends, starts + stride, "left")
    touching = np.searchsorted(starts, ends + stride, "right") - first
    upper = np.repeat(np.arange(len(starts)), touching)
    lower = np.arange(touching.sum()) - np.repeat(np.cumsum(touching) - touching - first, touching)
    alike = label[upper] == label[lower]
    piece = _least_connected(len(starts), upper[alike], lower[alike])
    areas = np.bincount(piece, ends - starts, minlength=len(starts)).astype(np.int64)  # weights made them floats
    return _Runs((height, width), starts, ends, label, piece, areas)


def groups(linked: Bools) -> list[NDArray[np.intp]]:
    """The connected groups of a symmetric relation, bool [n, n]; whoever is linked with nobody else is in none."""
    root = _least_connected(len(linked), *np.nonzero(linked))
    found = [np.flatnonzero(root == least) for least in np.unique(root)]
    return [group for group in found if len(group) > 1]


def _least_connected(n: int, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each of n nodes the least node it is connected to by the edges a-b: least labels spread, paths halve."""
    root = np.arange(n)
    while True:
        least = np.minimum(root[a], root[b])
        before = root.copy()
        np.minimum.at(root, root[a], least)
        np.minimum.at(root, root[b], least)
        root = root[root]
        if (root == before).all():
            return root
