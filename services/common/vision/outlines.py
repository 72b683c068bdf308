"""Outlines: a mask's border as polygons of few points, for clients that draw instead of decoding runs."""

from __future__ import annotations

import contourpy
import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]  # [k, 2] (x, y), closed: the first point stands again at the end

_MAX_POINTS = 200  # of all rings together, the closing ones counted
_MAX_RINGS = _MAX_POINTS // 5  # a ring has five points at least when it is as simple as it gets


def polygon(mask: NDArray[np.bool_], tolerance: float = 1.0) -> list[list[tuple[float, float]]]:
    """Outer rings of bool [h, w] as normalised (x, y) points, largest first; holes are left out.

    `tolerance`, in cells, is how far the outline may stray from the mask's border (Douglas & Peucker 1973). It is
    doubled until all rings together hold at most 200 points; of more than 40 rings the smallest are left out.
    """
    height, width = mask.shape
    outer = [ring for ring in rings(mask) if area(ring) > 0][:_MAX_RINGS]
    simple = [_simplify(ring, tolerance) for ring in outer]
    while sum(map(len, simple)) > _MAX_POINTS and tolerance < max(height, width):
        tolerance *= 2
        simple = [_simplify(ring, tolerance) for ring in outer]
    found = [ring[:-1] / (width, height) for ring in simple]
    return [[(round(float(x), 5), round(float(y), 5)) for x, y in ring] for ring in found]


def rings(mask: NDArray[np.bool_]) -> list[Ring]:
    """Every border of bool [h, w] in cells, from (0, 0) to (w, h), largest first: outer rings and holes."""
    # A margin of false cells closes all rings. Cell centres are contourpy's points, and the first lies at 1 now.
    padded = np.pad(mask, 1).astype(np.float32)
    # Just below one half, cells that meet at a corner hang together, as in masks.components: a scratch stays whole.
    lines = contourpy.contour_generator(z=padded, line_type=contourpy.LineType.Separate).lines(0.5 - 1e-6)
    limits = mask.shape[::-1]
    return sorted((np.clip(np.asarray(line) - 0.5, 0, limits) for line in lines), key=lambda r: -abs(area(r)))


def area(ring: Ring) -> float:
    """Signed area in cells (shoelace formula): contourpy keeps the mask on one side, so that holes are negative."""
    x, y = ring[:, 0], ring[:, 1]
    return float(x[:-1] @ y[1:] - x[1:] @ y[:-1]) / 2


def _simplify(ring: Ring, tolerance: float) -> Ring:
    """Douglas-Peucker on a closed ring, which is first cut at its start and at the point farthest from it."""
    far = int(np.square(ring - ring[0]).sum(1).argmax())
    keep = np.zeros(len(ring), bool)
    keep[[0, far, -1]] = True
    spans = [(0, far), (far, len(ring) - 1)]
    while spans:
        i, j = spans.pop()
        if j - i < 2:
            continue
        chord, between = ring[j] - ring[i], ring[i + 1 : j] - ring[i]
        # distance to the segment rather than to its line: a ring may turn back behind the chord's end
        along = np.clip(between @ chord / max(chord @ chord, 1e-12), 0, 1)
        distance = np.linalg.norm(between - along[:, None] * chord, axis=1)
        k = i + 1 + int(distance.argmax())
        if distance[k - i - 1] > tolerance:
            keep[k] = True
            spans += [(i, k), (k, j)]
    if keep.sum() < 4:  # a sliver: two points and the closing one draw nothing
        x0, y0 = ring.min(0)
        x1, y1 = ring.max(0)
        return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)])
    return ring[keep]
