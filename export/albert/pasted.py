"""Training photos with damages of other photos pasted onto panels on which they can occur.

Simple copy-paste (Ghiasi et al. 2021), but never a shattered glass on a door: `export/labels.yaml` says what a part can
suffer. Only parts that a labeller outlined are pasted on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from export.albert.data import MASK_SIDE, PartSets, Sample
from export.albert.rendered import scaled
from export.labels import Labels

Bools = NDArray[np.bool_]
_LEAST_CELLS = 12  # of a damage at MASK_SIDE
_INSIDE = 0.8  # share of a pasted damage that lies on its panel


def with_pastes(
    samples: Sequence[Sample], labels: Labels, sets: PartSets, *, share: float, seed: int = 0
) -> list[Sample]:
    """A second version of about `share` of the photos with part masks, each with one pasted damage."""
    rng = np.random.default_rng(seed)
    donors = [(s, i) for s in samples for i, m in enumerate(s.masks) if m.sum() >= _LEAST_CELLS]
    if not donors:
        return []
    drawn = [s for s in samples if s.parts is not None and rng.random() < share]
    versions = [pasted(s, donors[int(rng.integers(len(donors)))], labels, sets, rng) for s in drawn]
    return [v for v in versions if v is not None]


def pasted(
    sample: Sample, damage: tuple[Sample, int], labels: Labels, sets: PartSets, rng: np.random.Generator
) -> Sample | None:
    """`sample` with a donor's damage (its photo, which one) on a panel that can have it; None without such a place."""
    donor, which = damage
    names, mask = donor.names[which], donor.masks[which]
    panels = [row for row in can_have(names, labels, sets) if sample.parts is not None and (sample.parts == row).any()]
    if not panels or sample.parts is None:
        return None
    panel = sample.parts == int(rng.choice(panels))
    ys, xs = np.nonzero(mask)
    py, px = np.nonzero(panel)
    for _ in range(10):
        at = int(rng.integers(len(py)))
        dy, dx = int(py[at] - ys.mean()), int(px[at] - xs.mean())
        moved = _shifted(mask, dy, dx)
        if moved.sum() == mask.sum() and (moved & panel).sum() >= _INSIDE * moved.sum():
            pixels = _blended(sample.pixels, donor.pixels, mask, dy, dx)
            return Sample(pixels, [*sample.masks, moved], [*sample.names, names], sample.parts, sample.has_damages)
    return None


def can_have(names: Iterable[str], labels: Labels, sets: PartSets) -> list[int]:
    """Rows of `sets` whose every part can suffer one of `names`."""
    parts = labels.vocabulary.parts
    rows = []
    for row in range(1, len(sets.rows)):
        members = [parts[i - 1] for i in sets.rows[row].nonzero()[:, 0].tolist() if i]
        if members and all(set(names) & set(p.damages) for p in members):
            rows.append(row)
    return rows


def _shifted(mask: Bools, dy: int, dx: int) -> Bools:
    """The mask moved by whole cells; what leaves the photo is lost."""
    out, (ys, xs) = np.zeros_like(mask), np.nonzero(mask)
    inside = (ys + dy >= 0) & (ys + dy < len(mask)) & (xs + dx >= 0) & (xs + dx < len(mask))
    out[ys[inside] + dy, xs[inside] + dx] = True
    return out


def _blended(photo: NDArray[np.uint8], donor: NDArray[np.uint8], mask: Bools, dy: int, dx: int) -> NDArray[np.uint8]:
    """The donor's pixels under `mask`, moved, with soft edges and the brightness of where they come to lie."""
    side = len(photo)
    step = side / MASK_SIDE
    shift = (round(dy * step), round(dx * step))
    cover = Image.fromarray(scaled(mask, side).astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(1 + side / 300))
    weight = np.roll(np.asarray(cover, np.float32) / 255, shift, (0, 1))[..., None]
    moved = np.roll(donor.astype(np.float32), shift, (0, 1))
    around = (weight > 0.02) & (weight < 0.5)  # paint at the seam, of the donor and of the panel
    if around.any():
        seam = around[..., 0]
        moved += photo[seam].astype(np.float32).mean(0) - moved[seam].mean(0)
    out = photo * (1 - weight) + moved * weight
    return np.asarray(out.round().clip(0, 255), np.uint8)
