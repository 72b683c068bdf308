"""Findings: what, where, on which part, how large, real or fake, how sure, and why a person should look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.common.serving.schemas import Instance
from services.common.vision import masks
from services.common.vision.size import size_class
from services.gateway import ids, schemas
from services.gateway.assessment.fallback import Judged
from services.gateway.assessment.names import Names, words
from services.gateway.assessment.parts import Placed, nearest_side, place, placed
from services.gateway.assessment.policy import Policy
from services.gateway.assessment.reasons import reason

Bools = NDArray[np.bool_]

_DIGITS = 4  # of a probability: more would pretend


@dataclass(frozen=True, slots=True)
class Outlined:
    """What a damage's mask says by itself, whatever the second opinion is."""

    polygons: list[list[tuple[float, float]]]
    area_share: float
    on_fake: Placed


def outline(damages: Sequence[Instance], fakes: Sequence[Instance], policy: Policy) -> list[Outlined]:
    """The damages' masks, in their order; CPU work of a few milliseconds each."""
    grids = _stack(damages)
    on_fakes = place(grids, _stack(fakes), [fake.label for fake in fakes], least_share=policy.least_fake_share)
    return [
        Outlined(masks.polygon(grid, tolerance=0.5), round(masks.area_share(grid), 6), on_fake)
        for grid, on_fake in zip(grids, on_fakes, strict=True)
    ]


def build(
    damages: Sequence[Instance],
    outlines: Sequence[Outlined],
    judged: Sequence[Judged],
    parts: Sequence[Instance],
    *,
    names: Names,
    policy: Policy,
) -> list[schemas.Finding]:
    """Findings of one photo, in the order of `damages`."""
    sided = [(part.box, side) for part in parts if (side := names.part(part.label, 1).side) in ("left", "right")]
    found = [_finding(*each, names=names, policy=policy) for each in zip(damages, outlines, judged, strict=True)]
    for finding in found:
        if finding.part and finding.part.side is None:
            finding.part.side = nearest_side(finding.box, sided)
    return found


def decode(instance: Instance) -> Bools:
    return masks.decode(instance.mask.size, instance.mask.counts)


def _stack(instances: Sequence[Instance]) -> Bools:
    return np.stack([decode(instance) for instance in instances]) if instances else np.zeros((0, 1, 1), bool)


def _finding(damage: Instance, outlined: Outlined, judged: Judged, *, names: Names, policy: Policy) -> schemas.Finding:
    opinion = _opinion(damage.label, judged, names)
    title, title_confidence = _title(damage, opinion, names)
    fake = _fake(damage, outlined.on_fake, names)
    on = placed(damage.on, least_share=policy.least_part_share)
    part = names.part(on.best[0], _round(on.best[1])) if on.best else None
    reasons = _reasons(damage, opinion, fake, part, judged.doubt, names=names, policy=policy)
    return schemas.Finding(
        id=ids.new("fnd"),
        damage=damage.label,
        display=names.damage(damage.label),
        title=title,
        title_confidence=title_confidence,
        damage_score=_round(damage.score),
        name_probability=_round(damage.labels[0].score),
        alternatives=[
            schemas.Alternative(label=other.label, display=names.damage(other.label), score=_round(other.score))
            for other in damage.labels[1:]
        ],
        opinion=opinion,
        part=part,
        second_part=names.part(on.second[0], _round(on.second[1])) if on.second else None,
        box=damage.box,
        mask=damage.mask,
        polygons=outlined.polygons,
        area_share=outlined.area_share,
        size=size_class(damage.box),
        fake=fake,
        neighbours=judged.neighbours,
        confidence=_confidence(damage, opinion, names),
        route="review" if reasons else "auto",
        reasons=reasons,
    )


def _opinion(damage: str, judged: Judged, names: Names) -> schemas.Opinion:
    classes = names.vocabulary.classes
    decision = judged.decision
    label = classes[decision.label]
    return schemas.Opinion(
        label=label,
        confidence=_round(decision.confidence),
        probabilities={name: _round(float(p)) for name, p in zip(classes, decision.probabilities, strict=True)},
        source="model" if decision.outcome == "accept" else decision.outcome,
        agrees=names.vocabulary.agrees(damage, label),
        gates=[_round(gate) for gate in judged.gates],
    )


def _confidence(damage: Instance, opinion: schemas.Opinion, names: Names) -> float:
    """What the second opinion gives to this damage: the sum over the classes that mean it."""
    meant = [p for name, p in opinion.probabilities.items() if names.vocabulary.agrees(damage.label, name)]
    return _round(min(sum(meant), 1.0) if meant else damage.score)


def _title(damage: Instance, opinion: schemas.Opinion, names: Names) -> tuple[str, float]:
    """Both names where they differ, and how sure it is that one of them is right.

    "Missing part 3%" would read as a mistake where the second opinion is sure of a broken lamp.
    """
    display = names.damage(damage.label)
    if opinion.agrees:
        return display, _confidence(damage, opinion, names)
    either = [
        p
        for name, p in opinion.probabilities.items()
        if name == opinion.label or names.vocabulary.agrees(damage.label, name)
    ]
    return f"{display} or {words(opinion.label)}", _round(min(sum(either), 1.0))


def _fake(damage: Instance, on_fake: Placed, names: Names) -> schemas.Fake:
    """The doubt that is left: what the segmenter takes for a fake is listed among the look-alikes, not here."""
    label = on_fake.best[0] if on_fake.best else None
    return schemas.Fake(
        label=label,
        display=names.fake(label) if label else None,
        score=_round(damage.fake_score),
    )


def _reasons(
    damage: Instance,
    opinion: schemas.Opinion,
    fake: schemas.Fake,
    part: schemas.Part | None,
    doubt: str | None,
    *,
    names: Names,
    policy: Policy,
) -> list[schemas.Reason]:
    found = [reason(doubt)] if doubt else []
    if damage.score < policy.sure_damage:
        found.append(reason("weak_detection"))
    if not opinion.agrees:
        shown = names.damage(damage.label).lower()
        text = f"the segmenter sees {shown}, the second opinion says {words(opinion.label)}"
        found.append(reason("opinions_disagree", text))
    if fake.score >= policy.fake_doubt:
        only = f"it may be only: {fake.display.lower()}" if fake.display else None
        found.append(reason("looks_fake", only))
    if part is None:
        found.append(reason("part_unknown"))
    elif not names.vocabulary.possible(damage.label, part.name):
        text = f"{names.damage(damage.label)} does not occur on: {part.display.lower()}"
        found.append(reason("impossible_on_part", text))
    return found


def _round(value: float) -> float:
    return round(float(value), _DIGITS)
