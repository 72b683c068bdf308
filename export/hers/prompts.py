"""Stage 1, prompts: `python -m export.hers.prompts --out prompts.jsonl`; the same command goes on where it stopped.

Kept are the paper's 45 printed prompts and, per domain, candidates in a fixed order, each only if its ROUGE-L F1 with
every kept one is below tau (paper: eq. 2 and 8, greedy over j < i) and, with an embedder, its cosine below delta
(eq. 9).
The paper gives no tau, delta or counts: 0.8, 0.95 and 1,000 a domain are chosen here.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer, Tokenizer
from tqdm import tqdm

from export.hers.grammar import DOMAINS, Domain, Prompt, candidates, seeds

Embed = Callable[[str], NDArray[np.float32]]  # L2-normalised
_GIVE_UP = 2000  # candidates refused in a row: the bank has nothing new left at this tau


class _Remembering(Tokenizer):  # type: ignore[misc]  # the library is untyped
    """Each prompt is compared with thousands of others; it is cut into words once."""

    def __init__(self) -> None:
        self._words = lru_cache(maxsize=None)(DefaultTokenizer(use_stemmer=False).tokenize)

    def tokenize(self, text: str) -> list[str]:
        return list(self._words(text))


class LikenessFilter:
    """Greedy and order-dependent by definition: `admits` compares with what was kept before."""

    def __init__(self, tau: float = 0.8, embed: Embed | None = None, delta: float = 0.95) -> None:
        self._tau, self._embed, self._delta = tau, embed, delta
        self._words = _Remembering()
        self._scorer = RougeScorer(["rougeL"], tokenizer=self._words)
        self._kept: list[tuple[str, Counter[str], int]] = []
        self._vectors: list[NDArray[np.float32]] = []

    def admits(self, text: str) -> bool:
        """Whether `text` is new enough; if so it is kept."""
        words = self._words.tokenize(text)
        bag, length = Counter(words), len(words)
        for other, other_bag, other_length in self._kept:
            # The longest common subsequence is no longer than what the bags share: most pairs need no more.
            if 2 * (bag & other_bag).total() / max(length + other_length, 1) < self._tau:
                continue
            if self._scorer.score(other, text)["rougeL"].fmeasure >= self._tau:
                return False
        if self._embed is not None:
            vector = self._embed(text)
            if self._vectors and float((np.stack(self._vectors) @ vector).max()) >= self._delta:
                return False
            self._vectors.append(vector)
        self._kept.append((text, bag, length))
        return True


def bank(
    count: int,
    *,
    seed: int = 0,
    tau: float = 0.8,
    embed: Embed | None = None,
    delta: float = 0.95,
    sources: Callable[[Domain], Iterator[Prompt]] | None = None,
) -> Iterator[Prompt]:
    """The printed prompts and up to `count` prompts of each domain, those included. `sources` replaces the grammar."""
    kept = LikenessFilter(tau, embed, delta)
    printed = [prompt for prompt in seeds() if kept.admits(prompt.text)]
    for domain in DOMAINS:
        mine = [prompt for prompt in printed if prompt.domain == domain][:count]
        yield from mine
        found, refused = len(mine), 0
        for candidate in sources(domain) if sources else candidates(domain, seed):
            if found >= count or refused >= _GIVE_UP:
                break
            if kept.admits(candidate.text):
                yield candidate
                found, refused = found + 1, 0
            else:
                refused += 1


def read(path: Path) -> list[Prompt]:
    """The prompts of a file; a last line that was cut off by a kill is left out."""
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    return [Prompt(**json.loads(line)) for line in lines[:-1] if line]


def write(path: Path, prompts: Iterable[Prompt], total: int) -> int:
    """Write the prompts, one JSON object a line, after those that a stopped run wrote. Returns how many.

    The order is fixed by the seed, so what was written before is the beginning of what would be written now; raises
    ValueError where it is not: the file was made with other settings.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    before = read(path)
    with path.open("r+" if path.exists() else "w", encoding="utf-8") as file:
        file.truncate(sum(len((json.dumps(each.row(), ensure_ascii=False) + "\n").encode()) for each in before))
        file.seek(0, 2)
        written = 0
        for prompt in tqdm(prompts, total=total, desc="prompts", unit="prompt"):
            if written < len(before):
                if before[written] != prompt:
                    raise ValueError(f"{path} was made with other settings: choose another --out or delete it")
            else:
                file.write(json.dumps(prompt.row(), ensure_ascii=False) + "\n")
                file.flush()
            written += 1
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the prompt bank; the same command goes on where it stopped.")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines: text, domain, damage, part, side, source")
    parser.add_argument("--count", type=int, default=1000, help="prompts of each domain")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tau", type=float, default=0.8, help="ROUGE-L F1 from which two prompts are too alike")
    parser.add_argument("--embedder", type=Path, help="folder of a transformers text encoder, for the second filter")
    parser.add_argument("--delta", type=float, default=0.95, help="cosine from which two prompts are too alike")
    parser.add_argument("--llm-url", help="OpenAI-compatible endpoint, for example http://127.0.0.1:8000/v1")
    parser.add_argument("--llm-model", default="gpt-4-turbo", help="the paper's; any that the endpoint knows")
    args = parser.parse_args()
    embed = None
    if args.embedder:
        from export.hers.embedder import mean_pooled  # noqa: PLC0415 - loads torch, which the grammar does not need

        embed = mean_pooled(args.embedder)
    sources = None
    if args.llm_url:
        from export.hers.llm import ChatSource  # noqa: PLC0415

        source = ChatSource(args.llm_url, args.llm_model, seed=args.seed, cache=args.out.with_suffix(".llm.jsonl"))
        sources = source.prompts
    prompts = bank(args.count, seed=args.seed, tau=args.tau, embed=embed, delta=args.delta, sources=sources)
    print(f"{write(args.out, prompts, args.count * len(DOMAINS))} prompts in {args.out}")


if __name__ == "__main__":
    main()
