"""Stage 1: the prompt bank."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import httpx2
import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from export.hers.grammar import DOMAINS, candidates, seeds
from export.hers.llm import ChatSource
from export.hers.prompts import LikenessFilter, bank, read, write
from export.hers.weak_labels import route, weak_damage, weak_part
from export.labels import load_labels

PARTS = {part.name: part for part in load_labels().vocabulary.parts}


def test_the_45_printed_prompts_are_there_with_labels_of_our_vocabulary() -> None:
    found = seeds()
    assert [sum(s.domain == d for s in found) for d in DOMAINS] == [15, 15, 15]
    assert len({s.text for s in found}) == 45
    damages = {d.name for d in load_labels().vocabulary.damages}
    assert all(s.damage is None or s.damage in damages for s in found)
    assert all(s.part is None or (s.part in PARTS and s.damage in PARTS[s.part].damages) for s in found)


def test_the_grammar_never_asks_for_a_damage_where_it_cannot_be() -> None:
    for domain in DOMAINS:
        for prompt in itertools.islice(candidates(domain, 0), 500):
            assert prompt.damage in PARTS[prompt.part or ""].damages
            assert prompt.side == PARTS[prompt.part or ""].side
            assert PARTS[prompt.part or ""].display.lower() in prompt.text.lower()


def test_no_two_kept_prompts_are_alike_by_the_libraries_own_score() -> None:
    texts = [prompt.text for prompt in bank(60, tau=0.7)]
    scorer = RougeScorer(["rougeL"])
    assert len(texts) == 180
    assert all(scorer.score(a, b)["rougeL"].fmeasure < 0.7 for a, b in itertools.combinations(texts[::3], 2))


def test_the_filter_admits_all_of_its_own_output() -> None:
    texts = [prompt.text for prompt in bank(40)]
    again = LikenessFilter()
    assert all(again.admits(text) for text in texts)


def test_the_embedding_filter_refuses_what_words_alone_would_admit() -> None:
    same = np.array([1.0, 0.0], np.float32)
    kept = LikenessFilter(embed=lambda _: same)
    assert kept.admits("a dent on the hood")
    assert not kept.admits("entirely other words")


def test_a_stopped_run_goes_on_and_ends_with_the_same_file(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole.jsonl", tmp_path / "stopped.jsonl"
    assert write(whole, bank(20), 60) == 60
    text = whole.read_text()
    stopped.write_text(text[: len(text) // 2])  # in the middle of a line
    assert write(stopped, bank(20), 60) == 60
    assert stopped.read_text() == text
    assert len(read(stopped)) == 60
    with pytest.raises(ValueError, match="other settings"):
        write(stopped, bank(20, seed=1), 60)


def test_a_bank_that_runs_dry_ends_instead_of_turning_for_ever() -> None:
    assert 45 >= len(list(bank(10**6, tau=0.1))) > 0


def test_weak_labels_are_read_from_words_and_the_router_falls_back_on_the_prior() -> None:
    assert weak_damage("Cracked paint on a hood") == "crackedpaint"
    assert weak_part("its front-left fender severely dented") == "front_left_fender"
    assert weak_part("spiderweb cracks in the rear windshield") == "rear_windshield"
    agree = [p.damage == weak_damage(p.text) for p in seeds() if p.damage]
    assert sum(agree) >= 0.8 * len(agree)
    assert route("a dent", {"dent": 0.2, "scratch": 0.9}) == "dent"
    assert route("a car", {"dent": 0.2, "scratch": 0.9}) == "scratch"


def test_a_language_model_is_asked_once_for_each_batch_however_often_the_run_goes_on(tmp_path: Path) -> None:
    asked: list[dict[str, object]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(json.loads(request.content))
        lines = "\n".join(f"{i}. A dent on the hood of car number {len(asked)}-{i}." for i in range(20))
        return httpx2.Response(200, json={"choices": [{"message": {"content": lines}}]})

    def source() -> ChatSource:
        http = httpx2.Client(transport=httpx2.MockTransport(answer))
        return ChatSource("http://llm/v1", "m", seed=0, cache=tmp_path / "cache.jsonl", http=http)

    first = list(itertools.islice(source().prompts("typical"), 30))
    again = list(itertools.islice(source().prompts("typical"), 30))
    assert len(asked) == 2
    assert asked[0]["temperature"] == 0.7
    assert first == again
    assert (first[0].damage, first[0].part, first[0].source) == ("dent", "hood", "llm")
