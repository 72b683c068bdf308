"""The registry in memory: every picture this installation has made, to be asked about every photo that comes in.

Whose picture it is does not matter here: no tenant may claim with another tenant's synthetic picture either.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.common.serving import tensors
from services.common.serving.tensors import Spec
from services.gateway.generated import detail
from services.gateway.generated.likeness import Fingerprint, Laid, Pixels, fingerprint, layout, perceptual_hash, trimmed
from services.gateway.generated.likeness import sketch as sketched
from services.gateway.records.generations import GenerationStore

GENERATED = "This is a synthetic picture that was made here. It shows nothing that happened; send a real photo."
# Measured on toy cars and real photos (docs/benchmarks.md): our own pictures lie above both, whatever was done to them.
AGREEMENT, DETAIL_AGREEMENT = 0.85, 0.55
_CANDIDATES = 4  # by layout, and half as many by hash, for the photo as it is and without its bars
_LEAST_LIKENESS, _MOST_BITS = 0.6, 14  # farther than that, no candidate is worth laying over the photo
_MARGIN = 0.15  # of the painted window, around it: alignment is exact to a pixel of the sketch only


@dataclass(frozen=True, eq=False)
class Painted:
    """Where a picture was painted into a photo: the window, normalised, and its sketches after and before.

    The photo itself is real. Only what is closer to the painted window than to the clean one is our picture.
    """

    window: tuple[float, float, float, float]
    made: NDArray[np.float32]
    clean: NDArray[np.float32]


def dump(pixels: Pixels, clean: Pixels | None = None, mask: NDArray[np.bool_] | None = None) -> tuple[int, bytes]:
    """The perceptual hash and the stored fingerprint of a picture; `clean` and `mask` of one painted into a photo."""
    print_ = fingerprint(pixels)
    arrays: dict[str, NDArray[np.generic]] = {
        "layout": print_.layout,
        "sketch": print_.sketch,
        "hash": np.array([print_.hash], np.uint64),
        "detail": detail.detail(pixels),
    }
    if clean is not None and mask is not None:
        window = _window(mask)
        arrays |= {
            "window": np.array(window, np.float32),
            "made": sketched(_cut(pixels, window)),
            "clean": sketched(_cut(clean, window)),
        }
    return print_.hash, tensors.dump(arrays)


def _load(data: bytes) -> tuple[Fingerprint, NDArray[np.uint8], Painted | None]:
    grey = Spec("float32", (None, None))
    base = {
        "layout": Spec("float32", (None,)),
        "sketch": grey,
        "hash": Spec("uint64", (1,)),
        "detail": Spec("uint8", (None, None)),
    }
    painted = {"window": Spec("float32", (4,)), "made": grey, "clean": grey}
    has_window = b'"window"' in data[:2000]
    found = tensors.load(data, base | painted if has_window else base)
    floats = {name: np.asarray(array, np.float32) for name, array in found.items() if name not in ("hash", "detail")}
    fine = np.asarray(found["detail"], np.uint8)
    print_ = Fingerprint(int(found["hash"][0]), floats["layout"], floats["sketch"])
    if not has_window:
        return print_, fine, None
    x0, y0, x1, y1 = (float(v) for v in floats["window"])
    return print_, fine, Painted((x0, y0, x1, y1), floats["made"], floats["clean"])


class Registry:
    """`match` is asked by the pipeline for every photo; it costs nothing while nothing was ever generated."""

    def __init__(self, store: GenerationStore) -> None:
        self._store = store
        self._ids: list[str] = []
        self._prints: list[Fingerprint] = []
        self._details: list[NDArray[np.uint8]] = []
        self._painted: list[Painted | None] = []
        self._layouts = np.zeros((0, 108), np.float32)
        self._refreshing = asyncio.Lock()

    async def match(self, pixels: Pixels) -> str | None:
        """The id of our picture that this photo is, or None. `pixels`: uint8 [h, w, 3], upright."""
        await self._refresh()
        return await asyncio.to_thread(self.find, pixels) if self._ids else None

    async def exact(self, sha256: str) -> bool:
        """Whether these very bytes are one of our pictures."""
        return await self._store.made(sha256)

    def find(self, pixels: Pixels) -> str | None:
        """What `match` does, on what is in memory."""
        variants = self._variants(pixels)
        # What is cut off as a bar may be part of the picture: a candidate of one variant is laid over the other too.
        candidates = list(dict.fromkeys(index for variant in variants for index in self._candidates(variant)))
        for variant in variants if candidates else []:
            laid = Laid(variant)
            for index in candidates:
                aligned = laid.align(self._prints[index].sketch)
                if aligned.agreement < AGREEMENT:
                    continue
                if detail.agreement(variant, aligned.box, self._details[index]) < DETAIL_AGREEMENT:
                    continue
                painted = self._painted[index]
                if painted is None or _is_painted(variant, aligned.box, painted):
                    return self._ids[index]
        return None

    def add(self, image_id: str, data: bytes) -> None:
        """Know a picture by its stored fingerprint."""
        print_, fine, painted = _load(data)
        self._ids.append(image_id)
        self._prints.append(print_)
        self._details.append(fine)
        self._painted.append(painted)
        self._layouts = np.concatenate([self._layouts, print_.layout[None]])

    def _variants(self, pixels: Pixels) -> list[Pixels]:
        """The photo without bars on any side, without those above and below only, and as it is."""
        found = {each.shape: each for each in (trimmed(pixels), trimmed(pixels, sides=False), pixels)}
        return list(found.values())

    def _candidates(self, pixels: Pixels) -> list[int]:
        likeness, mine = self._layouts @ layout(pixels), perceptual_hash(pixels)
        distance = np.array([(mine ^ each.hash).bit_count() for each in self._prints])
        by_layout = [i for i in np.argsort(-likeness)[:_CANDIDATES].tolist() if likeness[i] >= _LEAST_LIKENESS]
        by_hash = [i for i in np.argsort(distance)[: _CANDIDATES // 2].tolist() if distance[i] <= _MOST_BITS]
        return list(dict.fromkeys([*by_layout, *by_hash]))

    async def _refresh(self) -> None:
        """Read what other processes have registered meanwhile; pictures are never taken back."""
        if await self._store.count() == len(self._ids):
            return
        async with self._refreshing:
            missing = sorted(await self._store.registered() - set(self._ids))
            for start in range(0, len(missing), 500):
                for image_id, data in await self._store.fingerprints(missing[start : start + 500]):
                    self.add(image_id, data)


def _window(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """The mask's box, normalised, with as much context on each side as half of it."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    y0, y1, x0, x1 = rows[0] / height, (rows[-1] + 1) / height, columns[0] / width, (columns[-1] + 1) / width
    x, y = (x1 - x0) / 2, (y1 - y0) / 2
    return float(max(0, x0 - x)), float(max(0, y0 - y)), float(min(1, x1 + x)), float(min(1, y1 + y))


def _cut(pixels: Pixels, box: tuple[float, float, float, float]) -> Pixels:
    height, width = pixels.shape[:2]
    x0, x1 = (int(np.clip(v * width, 0, width)) for v in (box[0], box[2]))
    y0, y1 = (int(np.clip(v * height, 0, height)) for v in (box[1], box[3]))
    return pixels[y0 : max(y1, y0 + 2), x0 : max(x1, x0 + 2)]


def _is_painted(photo: Pixels, box: tuple[float, float, float, float], painted: Painted) -> bool:
    """Whether the photo shows the window as it was painted rather than as it was; `box` is the picture's in it."""
    x0, y0, x1, y1 = painted.window
    mx, my = _MARGIN * (x1 - x0), _MARGIN * (y1 - y0)
    wide, tall = box[2] - box[0], box[3] - box[1]
    there = (
        box[0] + (x0 - mx) * wide,
        box[1] + (y0 - my) * tall,
        box[0] + (x1 + mx) * wide,
        box[1] + (y1 + my) * tall,
    )
    region = _cut(photo, there)
    if min(region.shape[:2]) < 8:
        return False  # the painted part was cropped away: what is left is the real photo
    laid = Laid(region)
    return laid.align(painted.made).agreement > laid.align(painted.clean).agreement
