"""Reads `labels.yaml`: the vocabulary every pack embeds, and how labels of other data sets translate into it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from services.common.vision.vocabulary import Coarse, Damage, Fake, Part, Vocabulary

DEFAULT_PATH = Path(__file__).with_name("labels.yaml")
_MAX_ERRORS = 20


class LabelError(ValueError):
    """The label file is not valid; the message names the file and every bad entry (the first 20)."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        shown = problems[:_MAX_ERRORS]
        if len(problems) > len(shown):
            shown.append(f"... and {len(problems) - len(shown)} more")
        super().__init__(f"{path} has {len(problems)} problem(s):\n  " + "\n  ".join(shown))
        self.problems = problems


@dataclass(frozen=True)
class Target:
    """A source's label here: the names whose probabilities are summed, and the name it is served as."""

    names: tuple[str, ...]
    serves: str


@dataclass(frozen=True)
class Labels:
    """The whole label file. `sources[source][label]` translates; `provenance[name]` is given | completed."""

    vocabulary: Vocabulary
    sources: dict[str, dict[str, Target]]
    provenance: dict[str, str]

    def damage_ids(self) -> dict[str, int]:
        """Damage name -> 1-based id."""
        return {d.name: i for i, d in enumerate(self.vocabulary.damages, start=1)}

    def fake_ids(self) -> dict[str, int]:
        """Fake name -> 1-based id."""
        return {f.name: i for i, f in enumerate(self.vocabulary.fakes, start=1)}

    def part_ids(self) -> dict[str, int]:
        """Part name -> 1-based id."""
        return {p.name: i for i, p in enumerate(self.vocabulary.parts, start=1)}

    def mirror_ids(self) -> tuple[int, ...]:
        """Entry i is the part id that id i becomes when the photo is flipped; entry 0 (none) is 0."""
        ids = self.part_ids()
        return (0, *(ids[p.mirror or p.name] for p in self.vocabulary.parts))


def load_labels(path: Path = DEFAULT_PATH) -> Labels:
    """Read and check a label file. Raises `LabelError` naming every entry that is wrong."""
    try:
        # The loader is a SafeLoader: it builds plain values only.
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506
        file = _File.model_validate(raw)
    except yaml.YAMLError as error:
        raise LabelError(path, [str(error)]) from None
    except ValidationError as error:
        places = [f"{'.'.join(str(x) for x in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise LabelError(path, places) from None
    problems = _check(file)
    if problems:
        raise LabelError(path, problems)
    return _build(file)


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets a later key overwrite an earlier one without a word; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = Counter(self.construct_object(key, deep=True) for key, _ in node.value)
        for key, n in keys.items():
            if n > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Name(_Entry):
    id: int
    name: str
    display: str
    provenance: Literal["given", "completed"]


class _Damage(_Name):
    agrees: tuple[str, ...]


class _Part(_Name):
    side: Literal["left", "right", "center"] = "center"
    mirror: str = ""


class _Coarse(_Entry):
    name: str
    display: str
    members: tuple[str, ...]


class _Target(_Entry):
    names: tuple[str, ...]
    serves: str = ""


class _File(_Entry):
    classes: tuple[str, ...]
    damages: list[_Damage]
    fakes: list[_Name]
    parts: list[_Part]
    coarse: list[_Coarse]
    groups: dict[str, list[str]]
    occurs: dict[str, list[str]]
    sources: dict[str, dict[str, str | _Target]]


def _check(file: _File) -> list[str]:
    """Every sentence that is wrong with the file's names, ids and references."""
    damages, parts = {d.name for d in file.damages}, {p.name: p for p in file.parts}
    coarse = {c.name for c in file.coarse}
    known = damages | {f.name for f in file.fakes} | set(parts) | coarse
    problems = [
        *_check_ids("damages", file.damages),
        *_check_ids("fakes", file.fakes),
        *_check_ids("parts", file.parts),
        *_check_unique(file),
        *_check_mirrors(parts),
    ]
    for d in file.damages:
        problems += _unknown(f"damages.{d.name}.agrees", d.agrees, file.classes, "class")
        if d.name not in file.occurs:
            problems.append(f"damages.{d.name}: `occurs` does not say on which parts it can occur")
    for c in file.coarse:
        problems += _unknown(f"coarse.{c.name}.members", c.members, parts, "part")
        if c.name in parts:
            problems.append(f"coarse.{c.name}: this is also the name of a part")
    earlier: set[str] = set()  # a group may name only groups above it: no circle is possible
    for group, members in file.groups.items():
        problems += _unknown(f"groups.{group}", members, {*parts, *earlier}, "part or earlier group")
        earlier.add(group)
        if group in parts or group == "all":
            problems.append(f"groups.{group}: this name already means something else")
    problems += _unknown("occurs", file.occurs, damages, "damage")
    for damage, where in file.occurs.items():
        problems += _unknown(f"occurs.{damage}", where, {*parts, *file.groups, "all"}, "part or group")
    for source, targets in file.sources.items():
        for label, target in targets.items():
            place = f"sources.{source}.{label}"
            names = [target] if isinstance(target, str) else target.names
            problems += _unknown(place, names, known, "damage, fake, part or coarse name")
            if not names:
                problems.append(f"{place}: names nothing")
            if isinstance(target, _Target) and target.serves:
                problems += _unknown(place, [target.serves], {*known, *file.classes}, "name or class")
    return problems


def _check_ids(kind: str, entries: Iterable[_Name]) -> list[str]:
    """Ids must be 1, 2, 3, ... in the order written: array positions depend on them."""
    return [
        f"{kind}.{e.name}: id {e.id} where {i} belongs (ids are dense, unique and in order)"
        for i, e in enumerate(entries, start=1)
        if e.id != i
    ]


def _check_unique(file: _File) -> list[str]:
    names = [e.name for group in (file.damages, file.fakes, file.parts) for e in group]
    counts = (Counter(names), Counter(file.classes), Counter(c.name for c in file.coarse))
    return [f"{name}: this name stands twice" for count in counts for name, n in count.items() if n > 1]


def _check_mirrors(parts: dict[str, _Part]) -> list[str]:
    opposite = {"left": "right", "right": "left", "center": "center"}
    problems = []
    for p in parts.values():
        other = parts.get(p.mirror) if p.mirror else p
        if other is None:
            problems.append(f"parts.{p.name}.mirror: {p.mirror!r} is no part")
        elif (other.mirror or other.name) != p.name:
            problems.append(f"parts.{p.name}.mirror: {other.name} does not mirror back to it")
        elif other.side != opposite[p.side]:
            problems.append(f"parts.{p.name}.side: {p.side}, but its mirror {other.name} is {other.side}")
    return problems


def _unknown(place: str, names: Iterable[str], known: Iterable[str], kind: str) -> list[str]:
    known = set(known)
    return [f"{place}: {name!r} is no {kind}" for name in names if name not in known]


def _build(file: _File) -> Labels:
    parts_of = {"all": [p.name for p in file.parts]}
    for group, members in file.groups.items():
        parts_of[group] = _expand(members, parts_of)
    where = {damage: set(_expand(members, parts_of)) for damage, members in file.occurs.items()}
    vocabulary = Vocabulary(
        damages=tuple(Damage(name=d.name, display=d.display, agrees=d.agrees) for d in file.damages),
        fakes=tuple(Fake(name=f.name, display=f.display) for f in file.fakes),
        parts=tuple(
            Part(
                name=p.name,
                display=p.display,
                side=p.side,
                mirror=p.mirror,
                damages=tuple(d.name for d in file.damages if p.name in where[d.name]),
            )
            for p in file.parts
        ),
        coarse=tuple(Coarse(name=c.name, display=c.display, members=c.members) for c in file.coarse),
        classes=file.classes,
    )
    fine = {c.name: list(c.members) for c in file.coarse}
    sources = {
        source: {str(label): _target(target, fine) for label, target in targets.items()}
        for source, targets in file.sources.items()
    }
    provenance: dict[str, str] = {
        e.name: e.provenance for group in (file.damages, file.fakes, file.parts) for e in group
    }
    return Labels(vocabulary=vocabulary, sources=sources, provenance=provenance)


def _target(target: str | _Target, fine: dict[str, list[str]]) -> Target:
    if isinstance(target, str):
        return Target(names=tuple(_expand([target], fine)), serves=target)
    names = tuple(_expand(target.names, fine))
    return Target(names=names, serves=target.serves or (names[0] if len(names) == 1 else ""))


def _expand(names: Iterable[str], members: dict[str, list[str]]) -> list[str]:
    """Every group name replaced by its members."""
    return [member for name in names for member in members.get(name, [name])]
