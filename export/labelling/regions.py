"""What stands on a picture: boxes with names, and how sure who is of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Box = tuple[float, float, float, float]  # normalised xyxy
Origin = Literal["model", "blended", "review", "human"]


@dataclass(frozen=True, slots=True)
class Region:
    """One named box. `source` "review": too unsure to learn from, a person should look; "human": a person has.

    Without a name something is there and nothing may be learned from it. `polygons`: its outline, rings of normalised
    (x, y), where more than the box is known.
    """

    box: Box
    name: str
    confidence: float = 1.0
    source: Origin = "human"
    polygons: tuple[tuple[tuple[float, float], ...], ...] = ()
    part: str | None = None


@dataclass(frozen=True)
class Labelled:
    """One picture and what is on it. `file` is relative to the folder of the pictures.

    Pictures of one `group` show the same thing and belong into one split; `negative` says why there is nothing on it.
    """

    file: str
    width: int
    height: int
    labels: tuple[Region, ...]
    group: int | None = None
    negative: str | None = None
