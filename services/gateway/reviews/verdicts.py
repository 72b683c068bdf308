"""From a person's verdict to what the API shows from then on, and to the class that the memory learns."""

from __future__ import annotations

from services.common.serving.errors import Unprocessable
from services.common.vision.vocabulary import Vocabulary
from services.gateway.assessment.names import Names
from services.gateway.records.models import Json
from services.gateway.reviews.schemas import Drawn, Verdict
from services.gateway.schemas import Finding, Opinion, Part, Side

_DIGITS = 4


def shown(finding: Finding) -> Json:
    """What a decision can change, as it stands in the finding."""
    return {
        "damage": finding.damage,
        "display": finding.display,
        "title": finding.title,
        "part": finding.part.model_dump() if finding.part else None,
        "confidence": finding.confidence,
    }


def about_claim(summary: Json, verdict: Verdict) -> tuple[Json, Json]:
    """What the claim as a whole came to before and after the verdict. Raises Unprocessable."""
    if verdict.action == "correct":
        raise Unprocessable("A claim as a whole is accepted, rejected, or a better photo is asked for.")
    return {"route": summary.get("route"), "reasons": summary.get("reasons", [])}, {"note": verdict.note}


def decided(finding: Finding, verdict: Verdict, vocabulary: Vocabulary) -> Json:
    """The same after the verdict. Raises Unprocessable for names that the vocabulary does not hold."""
    names = Names(vocabulary)
    if verdict.action == "ask" or verdict.note:
        raise Unprocessable("A better photo is asked for, and a note is made, of a claim as a whole.")
    if verdict.action == "reject":
        return {**shown(finding), "title": "No damage"}
    damage = verdict.damage or finding.damage
    if verdict.damage:
        check_damage(damage, vocabulary)
    part = part_of(finding.part, verdict, names)
    return {
        "damage": damage,
        "display": names.damage(damage),
        "title": names.damage(damage),
        "part": part.model_dump() if part else None,
        "confidence": _confidence(damage, finding, vocabulary),
    }


def lesson(damage: str, opinion: Opinion, vocabulary: Vocabulary) -> str | None:
    """The classifier's class that a damage means, or None where the name leaves it open.

    A name of several classes ("Broken mirror": a broken part, or glass) teaches one of them only where the second
    opinion had said so, and a name of all of them ("Other damage") teaches nothing.
    """
    meant = [name for name in vocabulary.classes if vocabulary.agrees(damage, name)]
    if len(meant) == 1:
        return meant[0]
    return opinion.label if opinion.label in meant and len(meant) < len(vocabulary.classes) else None


def check_damage(damage: str, vocabulary: Vocabulary) -> None:
    if damage not in {known.name for known in vocabulary.damages}:
        raise Unprocessable(f"There is no damage {damage!r}. `GET /v1/models` lists the names.")


def part_of(current: Part | None, verdict: Verdict | Drawn, names: Names) -> Part | None:
    """The part that a person named. Raises Unprocessable."""
    if verdict.part is None and verdict.side is None:
        return current
    name = verdict.part or (current.name if current else None)
    if name is None:
        raise Unprocessable("No part is known yet, so a side alone means nothing; send `part` too.")
    known = {part.name for part in names.vocabulary.parts} | {coarse.name for coarse in names.vocabulary.coarse}
    if name not in known:
        raise Unprocessable(f"There is no part {name!r}. `GET /v1/models` lists the names.")
    part = names.part(name, current.share if current and current.name == name else 1.0)
    own_side: Side | None = part.side
    if verdict.side is not None:
        if own_side is not None and own_side != verdict.side:
            raise Unprocessable(f"{part.display} is on the {own_side}. Send the part of the other side instead.")
        part.side = verdict.side
    return part


def _confidence(damage: str, finding: Finding, vocabulary: Vocabulary) -> float:
    """What the second opinion had given to this damage: a person's word does not change what a model thought."""
    if damage == finding.damage:
        return finding.confidence
    meant = [p for name, p in finding.opinion.probabilities.items() if vocabulary.agrees(damage, name)]
    return round(min(sum(meant), 1.0), _DIGITS)
