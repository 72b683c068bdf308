"""The frozen regression set: a case that makes its answers worse does not enter the memory.

Crops that never were in the memory are decided as a claim's crops are. Their right answers are counted with the pack's
training cases alone, and again with a tenant's cases; a new case must not bring the second number below the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from services.common.serving.schemas import Neighbour
from services.common.vision.vote import NEIGHBOURS, Rule, decide
from services.retrieval.packcases import FrozenCrops

Nearest = Callable[[NDArray[np.float32], str | None], list[list[Neighbour]]]  # queries, tenant -> k neighbours each


@dataclass(frozen=True, slots=True)
class _Voter:
    id: str
    distance: float
    label: int
    human: bool


Change = dict[int, list[_Voter]]  # crops that a change comes near -> who votes on each after it


class Guard:
    """Counts right answers on the frozen crops for one tenant after another. Not safe for several threads at once."""

    def __init__(self, crops: FrozenCrops, rule: Rule, classes: Sequence[str], nearest: Nearest) -> None:
        self._crops = crops
        self._rule = rule
        self._index = {name: i for i, name in enumerate(classes)}
        self._nearest = nearest
        self._voters: dict[str | None, list[list[_Voter]]] = {}
        self._right: dict[str | None, NDArray[np.bool_]] = {}
        self.before = self.now(None)

    def __len__(self) -> int:
        return len(self._crops.label)

    def now(self, tenant: str | None) -> int:
        """Right answers with the tenant's cases; with None, with training cases alone."""
        if tenant not in self._right:
            found = self._nearest(self._crops.embedding, tenant)
            self._voters[tenant] = [[self._voter(n) for n in row] for row in found]
            right = [self._is_right(crop, voters) for crop, voters in enumerate(self._voters[tenant])]
            self._right[tenant] = np.array(right, bool)
        return int(self._right[tenant].sum())

    def with_case(
        self, tenant: str, case_id: str, embedding: NDArray[np.float32], label: str, *, human: bool
    ) -> Change:
        """The change that one more case, of `embedding` float32 [d], would make."""
        self.now(tenant)
        voters = self._voters[tenant]
        farthest = np.array([row[-1].distance if len(row) == NEIGHBOURS else np.inf for row in voters])
        distances = np.maximum(1 - self._crops.embedding @ embedding, 0)
        change: Change = {}
        for crop in np.flatnonzero(distances < farthest).tolist():
            new = _Voter(case_id, float(distances[crop]), self._index[label], human)
            change[crop] = sorted([*voters[crop], new], key=lambda voter: voter.distance)[:NEIGHBOURS]
        return change

    def with_label(self, tenant: str, case_id: str, label: str) -> Change:
        """The change that another label of a known case would make."""
        self.now(tenant)
        return {
            crop: [replace(v, label=self._index[label]) if v.id == case_id else v for v in voters]
            for crop, voters in enumerate(self._voters[tenant])
            if any(voter.id == case_id for voter in voters)
        }

    def objection(self, tenant: str, change: Change) -> str | None:
        """Why the change must not be made, or None."""
        after = self.now(tenant)
        for crop, voters in change.items():
            after += int(self._is_right(crop, voters)) - int(self._right[tenant][crop])
        if after >= self.before:
            return None
        return (
            f"With this label {after} instead of {self.before} of {len(self)} test crops would be answered right. "
            "Look again whether it is right; a second person may tell."
        )

    def accept(self, tenant: str, change: Change) -> None:
        """The change was made."""
        for crop, voters in change.items():
            self._voters[tenant][crop] = voters
            self._right[tenant][crop] = self._is_right(crop, voters)

    def forget(self, tenant: str) -> None:
        """Count the tenant's right answers anew at the next question: a case was taken back."""
        self._right.pop(tenant, None)

    def forget_all(self) -> None:
        for tenant in [known for known in self._right if known is not None]:
            self.forget(tenant)

    def _voter(self, neighbour: Neighbour) -> _Voter:
        human = neighbour.source == "human"
        return _Voter(neighbour.id, neighbour.distance, self._index[neighbour.label], human)

    def _is_right(self, crop: int, voters: Sequence[_Voter]) -> bool:
        decision = decide(
            self._crops.probabilities[crop],
            [voter.distance for voter in voters],
            [voter.label for voter in voters],
            human=[voter.human for voter in voters],
            **self._rule,
        )
        return decision.label == int(self._crops.label[crop])
