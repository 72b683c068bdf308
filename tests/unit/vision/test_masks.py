"""Promises of masks: exact run lengths, safe against strangers' strings, and geometry that agrees with counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco

from services.common.vision.masks import (
    area_share,
    components,
    decode,
    encode,
    groups,
    mask_nms,
    overlap,
    tight_box,
    without_specks,
)

Bools = NDArray[np.bool_]


@st.composite
def grids(draw: st.DrawFn, least: int = 1, most: int = 24) -> Bools:
    height, width = draw(st.integers(least, most)), draw(st.integers(least, most))
    seed, density = draw(st.integers(0, 10_000)), draw(st.sampled_from([0.0, 0.05, 0.3, 0.6, 0.95, 1.0]))
    return np.random.default_rng(seed).random((height, width)) < density


def rectangle(x0: int, y0: int, x1: int, y1: int, size: int = 10) -> Bools:
    mask = np.zeros((size, size), bool)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools' decode; ours does not use it
@given(grids())
def test_run_lengths_come_back_exactly_and_are_cocos(mask: Bools) -> None:
    size, counts = encode(mask)
    assert size == mask.shape
    assert (decode(size, counts) == mask).all()
    assert (coco.decode({"size": list(size), "counts": counts}) == mask).all()


def test_long_runs_survive() -> None:
    mask = np.zeros((3000, 4000), bool)
    mask[1500:, 100:3900] = True
    mask[7, 7] = True
    assert (decode(*encode(mask)) == mask).all()


@given(
    st.text(st.characters(codec="ascii"), max_size=30) | st.text(max_size=10), st.integers(-1, 8), st.integers(-1, 8)
)
def test_a_strangers_counts_are_a_mask_of_the_size_or_an_error(counts: str, height: int, width: int) -> None:
    try:
        mask = decode((height, width), counts)
    except ValueError:
        return
    assert mask.shape == (height, width)


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        ((4, 4), ""),
        ((4, 4), "a"),  # cut: more characters are announced
        ((4, 4), "5"),  # too few cells
        ((4, 4), "oooooooooooooooooo0"),  # a number that never ends
        ((1, 4), "14N1"),  # a negative run
        ((100_000, 100_000), "0"),
        ((4, 4), "0\0"),
    ],
)
def test_malformed_run_lengths_are_an_error(size: tuple[int, int], counts: str) -> None:
    with pytest.raises(ValueError, match="mask's"):
        decode(size, counts)


@given(st.data(), grids(least=4))
def test_damaged_run_lengths_never_crash(data: st.DataObject, mask: Bools) -> None:
    size, counts = encode(mask)
    at = data.draw(st.integers(0, len(counts) - 1))
    changed = counts[:at] + chr(data.draw(st.integers(32, 126))) + counts[at + 1 :]
    try:
        assert decode(size, changed).shape == mask.shape
    except ValueError as error:
        assert "mask" in str(error)


def test_an_array_that_is_no_mask_is_not_encoded() -> None:
    for shape in ((2, 3, 4), (0, 5)):
        with pytest.raises(ValueError, match="grid"):
            encode(np.zeros(shape, bool))


@given(grids())
def test_the_tight_box_holds_every_cell_and_touches_four(mask: Bools) -> None:
    height, width = mask.shape
    if not mask.any():
        with pytest.raises(ValueError, match="empty"):
            tight_box(mask)
        return
    x0, y0, x1, y1 = np.rint(np.multiply(tight_box(mask), (width, height, width, height))).astype(int)
    inside = mask[y0:y1, x0:x1]
    assert inside.sum() == mask.sum() == round(area_share(mask) * mask.size)
    assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()


def test_overlaps_are_counted_cells() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((5, 9, 7)) < 0.5, rng.random((3, 9, 7)) < 0.5
    expected = [[(p & q).sum() for q in b] for p in a]
    assert (overlap(a, b) == expected).all() and overlap(a, b).dtype == np.float32
    assert overlap(a[:0], b).shape == (0, 3)


def test_of_masks_that_overlap_enough_only_the_best_stays() -> None:
    # IoU of neighbours: 40 / 60 and 20 / 80
    masks = np.stack([rectangle(0, 0, 5, 10), rectangle(1, 0, 6, 10), rectangle(4, 0, 9, 10)])
    scores = np.array([0.5, 0.9, 0.7], np.float32)
    assert mask_nms(masks, scores, 0.5).tolist() == [1, 2]
    assert mask_nms(masks, scores, 40 / 60 + 1e-3).tolist() == [1, 2, 0]
    assert mask_nms(masks, scores, 0.2).tolist() == [1]  # 2 shares 20 of 80 cells with 1


def test_reaching_the_threshold_is_enough_to_be_dropped() -> None:
    masks = np.stack([rectangle(0, 0, 4, 4), rectangle(0, 0, 4, 2)])  # IoU exactly one half (ALBERT eq. 10: >=)
    assert mask_nms(masks, np.array([0.9, 0.8], np.float32), 0.5).tolist() == [0]


def test_what_was_dropped_drops_nothing() -> None:
    masks = np.stack([rectangle(0, 0, 6, 10), rectangle(2, 0, 8, 10), rectangle(4, 0, 10, 10)])
    assert mask_nms(masks, np.array([0.9, 0.8, 0.7], np.float32), 0.4).tolist() == [0, 2]


def test_different_labels_do_not_drop_each_other() -> None:
    masks = np.stack([rectangle(0, 0, 5, 5)] * 3)
    scores = np.array([0.5, 0.6, 0.7], np.float32)
    assert mask_nms(masks, scores, 0.5, ["dent", "scratch", "dent"]).tolist() == [2, 1]


def test_equal_scores_keep_their_order_and_empty_masks_clash_with_nothing() -> None:
    masks = np.stack([rectangle(0, 0, 0, 0), rectangle(0, 0, 3, 3), rectangle(0, 0, 0, 0), rectangle(0, 0, 3, 3)])
    assert mask_nms(masks, np.full(4, 0.5, np.float32), 0.5).tolist() == [0, 1, 2]
    assert mask_nms(masks[:0], np.zeros(0, np.float32), 0.5).tolist() == []


@pytest.mark.parametrize("labels", [None, ["dent", "scratch"] * 6])
def test_no_two_that_are_kept_clash_and_each_dropped_one_clashes_with_a_better(labels: list[str] | None) -> None:
    rng = np.random.default_rng(1)
    masks = np.repeat(rng.random((4, 13, 9)) < 0.5, 3, axis=0) ^ (rng.random((12, 13, 9)) < 0.1)
    scores, names = rng.random(12).astype(np.float32), labels or [""] * 12
    kept = mask_nms(masks, scores, 0.5, labels).tolist()

    def clash(i: int, j: int) -> bool:
        return names[i] == names[j] and bool((masks[i] & masks[j]).sum() >= 0.5 * (masks[i] | masks[j]).sum())

    assert 0 < len(kept) < 12
    assert not any(clash(i, j) for i in kept for j in kept if i != j)
    assert all(any(clash(i, j) and scores[j] > scores[i] for j in kept) for i in set(range(12)) - set(kept))


def flooded(mask: Bools) -> list[frozenset[tuple[int, int]]]:
    """Connected pieces by flood fill, cell by cell: slow, and plainly right."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    pieces = []
    while left:
        piece, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            piece.add((y, x))
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            edge += near
        pieces.append(frozenset(piece))
    return pieces


@given(grids(), st.sampled_from([0.0, 0.02, 0.2]))
@settings(max_examples=150, deadline=None)
def test_components_are_those_of_a_flood_fill(mask: Bools, min_share: float) -> None:
    found = components(mask, min_share)
    cells = [frozenset((int(y), int(x)) for y, x in np.argwhere(piece)) for piece in found]
    assert set(cells) == {piece for piece in flooded(mask) if len(piece) >= min_share * mask.size}
    assert [len(piece) for piece in cells] == sorted(map(len, cells), reverse=True)
    assert all(piece.shape == mask.shape and piece.dtype == bool for piece in found)


def test_a_long_spiral_is_one_piece() -> None:
    mask = np.zeros((61, 61), bool)
    y, x, dy, dx = 0, 0, 0, 1
    for length in [60, *[n for n in range(60, 0, -2) for _ in (0, 1)]]:
        for _ in range(length):
            mask[y, x] = True
            y, x = y + dy, x + dx
        dy, dx = dx, -dy
    assert [piece.sum() for piece in components(mask, 0)] == [mask.sum()]


@given(grids(), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
@settings(max_examples=100, deadline=None)
def test_without_specks_stay_the_pieces_that_are_large_beside_the_largest(mask: Bools, min_share: float) -> None:
    pieces = flooded(mask)
    largest = max(map(len, pieces), default=0)
    expected = {cell for piece in pieces if len(piece) >= min_share * largest for cell in piece}
    assert {(int(y), int(x)) for y, x in np.argwhere(without_specks(mask, min_share))} == expected


def test_groups_are_what_hangs_together_over_any_number_of_links() -> None:
    linked = np.eye(6, dtype=bool)
    for a, b in ((0, 4), (4, 2), (1, 5)):
        linked[a, b] = linked[b, a] = True
    assert [group.tolist() for group in groups(linked)] == [[0, 2, 4], [1, 5]]
