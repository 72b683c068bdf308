"""From the vocabulary's names to the words and sides that people read."""

from __future__ import annotations

from services.common.vision.vocabulary import Vocabulary
from services.gateway.schemas import Part, Side

_SIDES: dict[str, Side] = {"left": "left", "right": "right", "center": "center"}


class Names:
    """Look-ups over one vocabulary. A name it does not hold is shown as it is."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._damages = {damage.name: damage.display for damage in vocabulary.damages}
        self._fakes = {fake.name: fake.display for fake in vocabulary.fakes}
        self._parts = {part.name: part for part in vocabulary.parts}
        self._coarse = {coarse.name: coarse for coarse in vocabulary.coarse}

    def damage(self, name: str) -> str:
        return self._damages.get(name, name)

    def fake(self, name: str) -> str:
        return self._fakes.get(name, name)

    def part(self, name: str, share: float) -> Part:
        """A coarse part ("wheel") has a side only where all its members share it."""
        if fine := self._parts.get(name):
            return Part(name=name, display=fine.display, side=_SIDES.get(fine.side), share=share)
        if coarse := self._coarse.get(name):
            sides = {self._parts[member].side for member in coarse.members if member in self._parts}
            side = _SIDES.get(sides.pop()) if len(sides) == 1 else None
            return Part(name=name, display=coarse.display, side=side, share=share)
        return Part(name=name, display=name, side=None, share=share)


def words(cls: str) -> str:
    """A class of the classifier as people read it: "lamp broken"."""
    return cls.replace("_", " ")
