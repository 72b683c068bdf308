"""Why a person should look: every reason's code and its sentence, in one place."""

from __future__ import annotations

from services.gateway.schemas import Reason

# What is said of a claim in which several findings have the same reason.
SENTENCES = {
    "weak_detection": "the segmenter is not sure that there is a damage",
    "low_confidence": "neither the model nor similar past cases are sure what it is",
    "opinions_disagree": "the two models name different damages",
    "memory_disagrees": "similar past cases overruled the model",
    "person_disagrees": "a person has named a nearly identical damage otherwise",
    "memory_unavailable": "the model was unsure and the memory of past cases could not be asked",
    "out_of_distribution": "it is unlike every past case",
    "looks_fake": "it may be something that only looks like damage",
    "impossible_on_part": "this damage does not occur on that part",
    "part_unknown": "no part was recognised under it",
    "no_vehicle": "hardly any vehicle is visible",
    "too_many_findings": "more damages were found than are listed",
    "photo_generated": "it is a synthetic picture made here, sent in as a photo",
    "photo_failed": "it could not be read",
    "no_damage": "no damage was found on any photo",
    "photo_wanted": "a person asks for a better photo",
    "person_objects": "a person says that this answer cannot stand",
}


def reason(code: str, text: str | None = None) -> Reason:
    """A reason with its own sentence, or with the general one."""
    return Reason(code=code, text=_sentence(text or SENTENCES[code]))


def gathered(code: str, count: int, thing: str, only: Reason | None) -> Reason:
    """The same reason `count` times, said once for the whole claim."""
    if count == 1 and only is not None:
        return only
    return Reason(code=code, text=f"{count} {thing}s: {SENTENCES[code]}.")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")
