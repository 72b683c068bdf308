"""What a prompt says, read from its words: weak labels, and the DSPR keyword router."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from export.labels import load_labels

# The longest matching stem wins, so that "cracked paint" is no crack.
_STEMS = {
    "crackedpaint": r"crack\w*[\w\s]{0,12}paint|paint[\w\s]{0,12}crack",
    "chippedpaint": r"chip\w*\s+paint|stone chip",
    "paintoff": r"peel\w*\s+paint|paint\s+(?:peel|flak)",
    "crackedlight": r"crack\w*[\w\s-]{0,20}(?:light|lamp)|(?:light|lamp)s?[\w\s]{0,12}crack",
    "brokenlight": r"(?:broken|smash|shatter)\w*[\w\s-]{0,20}(?:light|lamp)",
    "brokenmirror": r"(?:broken|shatter)\w*[\w\s-]{0,20}mirror|mirror[\w\s]{0,12}broken",
    "shatteredglass": r"shatter\w*[\w\s-]{0,20}(?:wind|glass)",
    "crackedglass": r"(?:crack\w*|spiderweb)[\w\s-]{0,20}(?:wind|glass)|(?:wind\w+|glass)[\w\s]{0,20}crack",
    "haildent": r"hail\s+dent",
    "flattire": r"(?:flat|deflated)[\w\s-]{0,20}tire",
    "missingpart": r"missing",
    "detached": r"detach|hanging",
    "crushed": r"crush|caved",
    "torn": r"\btorn\b|ripped",
    "scrape": r"scrape|scuff",
    "scratch": r"scratch",
    "dent": r"\bdent",
    "rust": r"\brust",
    "crack": r"crack",
}


def weak_damage(text: str) -> str | None:
    """The damage that `text` names, the most specific first; None where it names none."""
    return next((name for name, stem in _STEMS.items() if re.search(stem, text, re.IGNORECASE)), None)


def weak_part(text: str) -> str | None:
    """The part that `text` names in our words ("front-left fender" counts as "front left fender")."""
    plain = f" {re.sub(r'[^a-z]+', ' ', text.lower())} "
    return next((name for words, name in _part_words() if f" {words} " in plain), None)


@cache
def _part_words() -> list[tuple[str, str]]:
    parts = load_labels().vocabulary.parts
    words = [(re.sub(r"[^a-z]+", " ", part.display.lower()), part.name) for part in parts]
    return sorted(words, key=lambda pair: -len(pair[0]))  # "rear windshield" before "windshield"


def route(text: str, experts: Mapping[str, float]) -> str:
    """DSPR (appendix C): the expert whose damage the prompt names, else the one with the highest prior confidence.

    For comparing with the merged model only: the deployed generator is merged and routes nothing.
    """
    named = weak_damage(text)
    return named if named is not None and named in experts else max(experts, key=lambda name: experts[name])
