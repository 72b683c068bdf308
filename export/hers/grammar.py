"""The offline prompt bank: parts x side x make x colour x damage x scene, in the paper's three domains.

It needs no language model, and what it says is known exactly: each prompt carries its damage, part and side.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import yaml

from export.labels import load_labels
from services.common.vision.vocabulary import Part, Vocabulary

Domain = Literal["typical", "scene", "implausible"]
DOMAINS: tuple[Domain, ...] = get_args(Domain)
_SEEDS = Path(__file__).with_name("seeds.yaml")


@dataclass(frozen=True)
class Prompt:
    """A prompt and its weak labels, in the names of `labels.yaml`; None where the words leave it open."""

    text: str
    domain: str
    damage: str | None = None
    part: str | None = None
    side: str | None = None
    source: str = "grammar"  # grammar | paper | llm

    def row(self) -> dict[str, str | None]:
        return asdict(self)


# How people say a damage. Damages without words here are not asked for: a diffusion model has no notion of them.
_WORDS = {
    "dent": ("a dent on", "a deep round dent in", "a shallow dent across"),
    "scratch": ("long scratches on", "a deep key scratch along", "fine parallel scratches on"),
    "scrape": ("a wide scrape on", "scraped paint along"),
    "crackedpaint": ("cracked paint on", "crazed, cracking paint on"),
    "chippedpaint": ("chipped paint on", "stone chips all over"),
    "paintoff": ("paint peeled off", "bare metal showing through the paint of"),
    "crushed": ("a crushed", "a badly caved-in"),
    "torn": ("a torn", "a ripped and hanging"),
    "crack": ("a crack through", "a jagged crack in"),
    "rust": ("rust spreading over", "rust bubbles on"),
    "brokenlight": ("a broken", "a smashed"),
    "crackedlight": ("a cracked", "a hairline crack in"),
    "shatteredglass": ("a shattered", "a completely shattered"),
    "crackedglass": ("spiderweb cracks in", "a long crack across"),
    "brokenmirror": ("a broken", "a hanging, broken"),
    "flattire": ("a flat", "a fully deflated"),
    "detached": ("a half detached", "a loosely hanging"),
    "missingpart": ("a missing", "bare brackets in place of"),
    "haildent": ("hail dents all over", "many small hail dents on"),
}
_MAKES = (
    "Toyota Camry", "Honda Civic", "Mazda CX-5", "Ford Ranger", "Nissan Almera", "BMW 3 Series", "Kia Sorento",
    "Hyundai Tucson", "Volkswagen Golf", "Renault Clio", "Skoda Octavia", "Fiat 500", "Tesla Model 3", "Volvo XC60",
    "Peugeot 208", "Audi A4", "Opel Corsa", "Subaru Forester", "Suzuki Swift", "Mercedes C-Class",
)  # fmt: skip
_COLOURS = ("white", "black", "silver", "gray", "red", "blue", "green", "beige", "dark blue", "orange")
_SHOTS = (
    "close-up photo", "phone photo", "insurance claim photo", "wide shot", "photo from a low angle",
    "overexposed photo", "photo taken with flash", "photo in soft daylight",
)  # fmt: skip
_PLACES = (
    "in a tight parking garage", "on a gravel shoulder", "in front of a repair shop", "at a crowded mall parking lot",
    "in a narrow alley", "beside orange cones at a reporting station", "on a wet highway", "in a suburban driveway",
    "at a petrol station", "under dense trees", "on a snowy street", "next to a concrete pillar", "at a crossing",
)  # fmt: skip
_TIMES = (
    "at dusk", "on a bright noon", "at night under street lamps", "in heavy fog", "after heavy rain",
    "in light drizzle", "in low winter sun", "early in the morning", "under an overcast sky",
)  # fmt: skip
_CAUSES = (
    "after a low-speed collision", "after backing into a pole", "after a side swipe", "after hitting a kerb",
    "from a rear-end crash", "found after parking overnight", "after a hail storm", "after brushing a wall",
)  # fmt: skip
_IMPOSSIBLE = (
    "floats above an endless road", "melts like wax in the sun", "is folded like origami", "is made of smoke",
    "dissolves into coloured pixels", "casts two shadows", "bends upwards against gravity", "is woven from leather",
    "hovers beside the car it belongs to", "turns to ice in a desert", "is see-through like glass over its steel frame",
)  # fmt: skip


def seeds() -> list[Prompt]:
    """The 45 prompts the paper prints."""
    sides = {part.name: part.side for part in load_labels().vocabulary.parts}
    rows = yaml.safe_load(_SEEDS.read_text(encoding="utf-8"))
    return [
        Prompt(row["text"], domain, row.get("damage"), row.get("part"), sides.get(row.get("part")), "paper")
        for domain in DOMAINS
        for row in rows[domain]
    ]


def candidates(domain: Domain, seed: int, vocabulary: Vocabulary | None = None) -> Iterator[Prompt]:
    """Endless prompts of one domain, the same for the same seed. Damages only on parts they can occur on."""
    rng = random.Random(f"{domain}/{seed}")
    parts = (vocabulary or load_labels().vocabulary).parts
    # A diffusion model writes invented numbers on plates; the generator refuses prompts that name one.
    parts = tuple(part for part in parts if "plate" not in part.name)
    pairs = [(damage, part) for part in parts for damage in part.damages if damage in _WORDS]
    by_damage: dict[str, list[Part]] = {}
    for damage, part in pairs:
        by_damage.setdefault(damage, []).append(part)
    while True:
        damage = rng.choice(sorted(by_damage))  # each damage as often as any other, however many parts it has
        part = rng.choice(by_damage[damage])
        make, colour = rng.choice(_MAKES), rng.choice(_COLOURS)
        what = f"{rng.choice(_WORDS[damage])} {_the(rng, damage, part)}"
        if domain == "typical":
            text = f"{rng.choice(_SHOTS)} of {what} of a {colour} {make}"
        elif domain == "scene":
            text = f"A {colour} {make} {rng.choice(_PLACES)} {rng.choice(_TIMES)}, with {what}, {rng.choice(_CAUSES)}"
        else:
            text = f"The {part.display.lower()} of a {colour} {make} {rng.choice(_IMPOSSIBLE)}, with {what}"
        yield Prompt(f"{text[0].upper()}{text[1:]}.", domain, damage, part.name, part.side)


def _the(rng: random.Random, damage: str, part: Part) -> str:
    """The part as it follows the damage's words: "a broken left headlight", but "a dent on the hood"."""
    bare = damage in ("crushed", "torn", "brokenlight", "shatteredglass", "brokenmirror", "flattire", "detached")
    if damage == "missingpart":
        return part.display.lower()
    article = "" if bare or damage == "crackedlight" else rng.choice(("the ", "its "))
    return f"{article}{part.display.lower()}"
