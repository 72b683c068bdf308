"""Photos that look alike across the splits of a data set: a report, nothing is dropped.

    python -m export.data.duplicates train.json val.json test.json

Perceptual hashes (64 bits of the low frequencies, `imagehash.phash`) of a photo and of its mirror image differ in few
bits between copies that were resized, recompressed or flipped. A near-copy in two splits makes the measured numbers
too good.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from export.data.coco import CocoError, CocoSet, Photo, read_coco

# On 64 bits, unrelated photos differ in about 32; copies after JPEG and resizing in 0 to 6.
MAX_DISTANCE = 6


@dataclass(frozen=True)
class Pair:
    """Two photos of different files and in how many of 64 bits they differ; `mirrored`: after flipping one."""

    a: Photo
    b: Photo
    distance: int
    mirrored: bool


def hashes(photos: Sequence[Photo], *, mirrored: bool = False, progress: bool = False) -> NDArray[np.bool_]:
    """Perceptual hashes as bits, bool [n, 64]."""
    rows = []
    for photo in tqdm(photos, unit="photo", disable=not progress):
        with Image.open(photo.path) as picture:
            picture.draft("L", (64, 64))  # JPEGs are decoded small: the hash looks at 32 x 32 pixels
            grey = picture.convert("L")
        if mirrored:
            grey = grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        rows.append(imagehash.phash(grey).hash.ravel())
    return np.array(rows, np.bool_).reshape(len(photos), 64)


def across(sets: Sequence[CocoSet], max_distance: int = MAX_DISTANCE, *, progress: bool = False) -> list[Pair]:
    """All pairs of photos from different sets that differ in at most `max_distance` bits, nearest first."""
    plain = [hashes(s.photos, progress=progress) for s in sets]
    pairs: dict[tuple[int, int, int, int], Pair] = {}
    for i, second in enumerate(sets):
        flipped = hashes(second.photos, mirrored=True, progress=progress) if i else plain[0]
        for j, first in enumerate(sets[:i]):
            for bits, mirrored in ((plain[i], False), (flipped, True)):
                distance = _differences(plain[j], bits)
                for m, n in zip(*(k.tolist() for k in np.nonzero(distance <= max_distance)), strict=True):
                    found = Pair(first.photos[m], second.photos[n], int(distance[m, n]), mirrored)
                    known = pairs.get((j, m, i, n))
                    if known is None or found.distance < known.distance:
                        pairs[j, m, i, n] = found
    return sorted(pairs.values(), key=lambda p: p.distance)


def _differences(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Hamming distances [n, m], as one matrix product of signs."""
    x, y = (np.where(bits, 1, -1).astype(np.float32) for bits in (a, b))
    return np.asarray((64 - x @ y.T) / 2, np.float32)


def main() -> int:
    parser = argparse.ArgumentParser(description="Report photos that look alike across splits.")
    parser.add_argument("files", nargs="+", type=Path, help="two or more COCO files")
    parser.add_argument("--max-distance", type=int, default=MAX_DISTANCE, help=f"bits of 64 (default {MAX_DISTANCE})")
    options = parser.parse_args()
    try:
        sets = [read_coco(path) for path in options.files]
    except CocoError as error:
        print(error, file=sys.stderr)
        return 1
    pairs = across(sets, options.max_distance, progress=True)
    for p in pairs:
        print(f"{p.distance:3d} bits  {'mirrored' if p.mirrored else '        '}  {p.a.path}  {p.b.path}")
    print(f"{len(pairs)} pairs in {sum(len(s.photos) for s in sets)} photos")
    return 0


if __name__ == "__main__":
    sys.exit(main())
