"""The names Claimsight speaks: 26 damages, 7 fake damages, 61 parts (ALBERT) and the classifier's classes.

Written once in `export/labels.yaml`, embedded in every pack, and read from the packs by the services: whoever brings
a pack with other names changes no code. `names_hash` covers names and their order only, so that display names,
aliases and compatibilities may change without a new pack.
"""

from __future__ import annotations

import hashlib
import json

from pydantic import BaseModel, ConfigDict


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Damage(_Frozen):
    """One of ALBERT's 26 damages; `agrees` lists the classifier classes that mean the same thing."""

    name: str
    display: str
    agrees: tuple[str, ...] = ()


class Fake(_Frozen):
    """One of ALBERT's 7 things that look like damage and are none."""

    name: str
    display: str


class Part(_Frozen):
    """One of ALBERT's 61 parts. `side` is the car's own left or right; `mirror` the name after a flip."""

    name: str
    display: str
    side: str = "center"  # left | right | center
    mirror: str = ""  # empty: the part is its own mirror image
    damages: tuple[str, ...] = ()  # damages that can occur on this part


class Coarse(_Frozen):
    """A part name of coarser data sets ("wheel"): its probability is the sum of its fine members'."""

    name: str
    display: str
    members: tuple[str, ...]


class Vocabulary(_Frozen):
    """All names, in id order (ids are 1-based positions; 0 is none)."""

    damages: tuple[Damage, ...]
    fakes: tuple[Fake, ...]
    parts: tuple[Part, ...]
    coarse: tuple[Coarse, ...]
    classes: tuple[str, ...]

    def names_hash(self) -> str:
        """SHA-256 (hex) over the names in order; two packs work together only when theirs are equal."""
        names = [
            [d.name for d in self.damages],
            [f.name for f in self.fakes],
            [p.name for p in self.parts],
            [[c.name, *c.members] for c in self.coarse],
            list(self.classes),
        ]
        return hashlib.sha256(json.dumps(names, separators=(",", ":")).encode()).hexdigest()

    def agrees(self, damage: str, cls: str) -> bool:
        """Whether ALBERT's `damage` and the classifier's `cls` name the same thing."""
        return any(d.name == damage and cls in d.agrees for d in self.damages)

    def suits(self, damage: str, part: str) -> float:
        """The share of `part`'s fine members (a fine part is its own) on which `damage` can occur; 1 if unknown."""
        fine = {p.name: p for p in self.parts}
        members = next((c.members for c in self.coarse if c.name == part), (part,))
        known = [fine[m] for m in members if m in fine]
        return sum(damage in p.damages for p in known) / len(known) if known else 1.0

    def possible(self, damage: str, part: str) -> bool:
        """Whether `damage` can occur on `part` (a fine or coarse name); unknown parts allow everything."""
        return self.suits(damage, part) > 0
