"""Prompts from a language model behind an OpenAI-compatible endpoint (paper: p ~ f(p | S, c), temperature 0.7)."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2

from export.hers.grammar import Domain, Prompt, seeds
from export.hers.weak_labels import weak_damage, weak_part
from export.labels import load_labels

_CONCEPTS = ("dent", "scrape", "torn bumper", "cracked paint", "broken light")  # the paper's C
_MEANT = {
    "typical": "one visible damage on one named vehicle part, with make, colour and side",
    "scene": "a damaged vehicle in a real place, with weather and time of day",
    "implausible": "a vehicle part in a physically impossible state",
}
_AT_ONCE = 20


class ChatSource:
    """Asks for prompts a batch at a time and keeps every answer in `cache`: a run that goes on asks only for new ones.

    The key comes from OPENAI_API_KEY, as in every such client. Raises httpx2.HTTPError where the endpoint fails.
    """

    def __init__(self, url: str, model: str, *, seed: int, cache: Path, http: httpx2.Client | None = None) -> None:
        key = os.environ.get("OPENAI_API_KEY")
        self._http = http or httpx2.Client(timeout=120, headers={"Authorization": f"Bearer {key}"} if key else {})
        self._url, self._model, self._seed, self._cache = url.rstrip("/"), model, seed, cache

    def prompts(self, domain: Domain) -> Iterator[Prompt]:
        sides = {part.name: part.side for part in load_labels().vocabulary.parts}
        for text in self._texts(domain):
            part = weak_part(text)
            yield Prompt(text, domain, weak_damage(text), part, sides.get(part or ""), "llm")

    def _texts(self, domain: Domain) -> Iterator[str]:
        known = self._cache.read_text(encoding="utf-8").splitlines() if self._cache.exists() else []
        kept = [row for row in map(json.loads, known) if row["domain"] == domain]
        for row in kept:
            yield from row["texts"]
        rng = random.Random(f"{self._seed}/{domain}")
        for number in range(10_000):
            examples, concept = rng.sample([s.text for s in seeds() if s.domain == domain], 3), rng.choice(_CONCEPTS)
            if number < len(kept):
                continue  # the same draws as before, so that what follows is the same too
            texts = self._ask(domain, concept, examples)
            with self._cache.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"domain": domain, "texts": texts}) + "\n")
            yield from texts

    def _ask(self, domain: Domain, concept: str, examples: list[str]) -> list[str]:
        asked = (
            f"Write {_AT_ONCE} captions of photos, one a line, without numbers, people or license plates. Each shows "
            f"{_MEANT[domain]}; at least half show {concept}. Examples:\n" + "\n".join(examples)
        )
        answer = self._http.post(
            f"{self._url}/chat/completions",
            json={"model": self._model, "temperature": 0.7, "messages": [{"role": "user", "content": asked}]},
        )
        answer.raise_for_status()
        said = str(answer.json()["choices"][0]["message"]["content"])
        lines = (re.sub(r"^\s*(?:\d+[.)]|[-*])\s*", "", line).strip() for line in said.splitlines())
        return [line for line in lines if 10 <= len(line) <= 300]
