"""Part probabilities from the segment graph's logits, and which parts a damage lies on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.common.vision.logits import Floats, double, softmax
from services.common.vision.vocabulary import Vocabulary

Bools = NDArray[np.bool_]

LEAST_SHARE = 0.05  # of a damage that makes a part worth naming: close-ups leave most of a damage on no part at all
_NAMED = 3  # parts per damage, the best
_DOUBT = 0.05  # what a combination that the vocabulary rules out still counts: names can be wrong, parts too


def part_groups(vocabulary: Vocabulary, supported: Mapping[str, Sequence[str]]) -> tuple[list[str], Floats]:
    """Served part names (fine, then coarse) and the matrix [n, 1 + P] that sums fine probabilities into them.

    A fine part that is served itself is in no sum: counted twice, it would hide what is beside it.
    """
    ids = {p.name: i + 1 for i, p in enumerate(vocabulary.parts)}
    fine = [p.name for p in vocabulary.parts if p.name in supported.get("parts", ())]
    coarse = {c.name: c.members for c in vocabulary.coarse if c.name in supported.get("coarse", ())}
    rows = np.zeros((len(fine) + len(coarse), 1 + len(ids)), np.float32)
    left = [[m for m in members if m in ids and m not in fine] for members in coarse.values()]
    for row, members in enumerate([*([name] for name in fine), *left]):
        rows[row, [ids[m] for m in members]] = 1
    return [*fine, *coarse], rows


def part_probabilities(logits: Floats, groups: Floats, height: int) -> Floats:
    """[n, height, width] from part logits [1 + P, h, w], doubled until they have the damage masks' grid.

    What no group covers counts as none.
    """
    flat = softmax(logits.reshape(len(logits), -1), axis=0)
    maps = np.asarray((groups @ flat).reshape(len(groups), *logits.shape[1:]), np.float32)
    while maps.shape[1] < height:
        maps = double(maps)
    return maps


def suitability(vocabulary: Vocabulary, damages: Sequence[str], parts: Sequence[str]) -> Floats:
    """[damages, parts]: the share of each part's fine members on which each damage can occur."""
    return np.array([[vocabulary.suits(damage, part) for part in parts] for damage in damages], np.float32).reshape(
        len(damages), len(parts)
    )


@dataclass(frozen=True, eq=False)
class PartMaps:
    """Served part names, the fine parts that each stands for, and where each is: probabilities [n, h, w]."""

    names: list[str]
    members: list[set[str]]
    probabilities: Floats

    @classmethod
    def of(
        cls, logits: Floats, height: int, vocabulary: Vocabulary, supported: Mapping[str, Sequence[str]]
    ) -> PartMaps:
        """From part logits [1 + P, h, w], on a grid of `height`."""
        names, groups = part_groups(vocabulary, supported)
        coarse = {c.name: set(c.members) for c in vocabulary.coarse}
        members = [coarse.get(name, {name}) for name in names]
        return cls(names, members, part_probabilities(logits, groups, height))

    def places(self, masks: Bools, suits: Floats) -> list[list[tuple[str, float]]]:
        """For each damage up to three parts with the share of the damage expected on each, likeliest first.

        `masks`: bool [n, h, w]; `suits`: [n, parts] in [0, 1], how well each part goes with what the damage seems to
        be. Close-ups show too little of a car to tell a door from a bumper, but broken glass is on glass: suitability
        orders the parts, the share stays what the picture says. (Eq. 20 of ALBERT lets parts lift damages; this is the
        way back.)
        """
        if not len(masks) or not self.names:
            return [[] for _ in masks]
        flat = masks.reshape(len(masks), -1).astype(np.float32)
        shares = flat @ self.probabilities.reshape(len(self.names), -1).T / np.maximum(flat.sum(1, keepdims=True), 1)
        order = np.argsort(-shares * (suits + _DOUBT), axis=1, kind="stable")
        return [
            [(self.names[i], float(row[i])) for i in self._apart(best)] for row, best in zip(shares, order, strict=True)
        ]

    def _apart(self, order: NDArray[np.intp]) -> list[int]:
        """The first few that do not stand for the same thing: who reads "trunk lid" need not read "tailgate" too."""
        chosen: list[int] = []
        for i in order.tolist():
            if len(chosen) < _NAMED and all(self.members[i].isdisjoint(self.members[j]) for j in chosen):
                chosen.append(i)
        return chosen
