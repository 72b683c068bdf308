"""Blind pairs: an HTML page on which people choose between two variants, and what their votes say (Bradley-Terry)."""

from __future__ import annotations

import base64
import html
import itertools
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def page(variants: Mapping[str, Sequence[bytes]], prompts: Sequence[str], *, seed: int = 0) -> str:
    """One HTML file, pictures (PNG) included: for every prompt each pair of variants, sides and order at random.

    Which variant is where is not in the page; it is in `key`, made from the same seed.
    """
    cards = []
    for number, (prompt, left, right) in enumerate(_order(list(variants), len(prompts), seed)):
        pictures = "".join(
            f'<button data-side="{side}"><img alt="" src="data:image/png;base64,'
            f'{base64.b64encode(variants[name][prompt]).decode()}"></button>'
            for side, name in (("left", left), ("right", right))
        )
        cards.append(f'<section data-n="{number}"><p>{html.escape(prompts[prompt])}</p>{pictures}</section>')
    return _PAGE.replace("{cards}", "".join(cards))


def key(variants: Sequence[str], prompts: int, *, seed: int = 0) -> list[dict[str, str]]:
    """What was left and right on each card of the page."""
    return [{"left": left, "right": right} for _, left, right in _order(variants, prompts, seed)]


def _order(variants: Sequence[str], prompts: int, seed: int) -> list[tuple[int, str, str]]:
    rng = random.Random(seed)
    cards = []
    for pair in itertools.combinations(variants, 2):
        for prompt in range(prompts):
            left, right = rng.sample(pair, 2)
            cards.append((prompt, left, right))
    rng.shuffle(cards)
    return cards


@dataclass(frozen=True)
class Strength:
    """Probability of winning against an average variant, with a 95 % interval over resampled votes."""

    variant: str
    value: float
    low: float
    high: float


def strengths(votes: Path, card: Sequence[Mapping[str, str]], *, rounds: int = 500, seed: int = 0) -> list[Strength]:
    """Bradley-Terry strengths from the page's download ({"card number": "left" | "right"}); best first."""
    said = json.loads(votes.read_text(encoding="utf-8"))
    duels = []
    for number, side in said.items():
        shown = card[int(number)]
        duels.append((shown[side], shown["right" if side == "left" else "left"]))
    names = sorted({name for duel in duels for name in duel})
    index = np.array([[names.index(winner), names.index(loser)] for winner, loser in duels])
    rng = np.random.default_rng(seed)
    draws = np.array(
        [_bradley_terry(index[rng.integers(0, len(index), len(index))], len(names)) for _ in range(rounds)]
    )
    values, (low, high) = _bradley_terry(index, len(names)), np.quantile(draws, [0.025, 0.975], axis=0)
    found = [Strength(name, float(values[i]), float(low[i]), float(high[i])) for i, name in enumerate(names)]
    return sorted(found, key=lambda each: -each.value)


def _bradley_terry(duels: NDArray[np.int64], count: int, rounds: int = 100) -> NDArray[np.float64]:
    """Hunter's MM updates; half a win against everyone as prior, so that a variant that never lost stays finite."""
    wins = np.full((count, count), 0.5)
    np.fill_diagonal(wins, 0)
    np.add.at(wins, (duels[:, 0], duels[:, 1]), 1)
    strength = np.ones(count)
    for _ in range(rounds):
        games = (wins + wins.T) / (strength[:, None] + strength[None])
        strength = wins.sum(1) / games.sum(1)
        strength /= np.exp(np.log(strength).mean())
    return np.asarray(strength / (1 + strength))


_PAGE = """<!doctype html><meta charset="utf-8"><title>Which one?</title>
<style>body{font:16px system-ui;max-width:70rem;margin:2rem auto}section{display:none}section.on{display:block}
button{border:3px solid #ccc;padding:0;margin:.5rem;background:none;cursor:pointer}img{display:block;width:30rem}
</style>
<h1>Which picture shows the text better?</h1><p id="left"></p>{cards}
<script>
const cards=[...document.querySelectorAll("section")],votes={};let at=0;
function show(){cards.forEach((c,i)=>c.classList.toggle("on",i===at));
document.querySelector("#left").textContent=`${Math.min(at+1,cards.length)} of ${cards.length}`;
if(at===cards.length){const a=document.createElement("a");a.download="votes.json";a.textContent="Save the votes";
a.href=URL.createObjectURL(new Blob([JSON.stringify(votes)]));document.body.append(a)}}
document.addEventListener("click",e=>{const b=e.target.closest("button");if(!b)return;
votes[b.parentElement.dataset.n]=b.dataset.side;at++;show()});show();
</script>"""
