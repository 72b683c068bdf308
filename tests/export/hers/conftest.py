"""One tiny SDXL base and a few rendered pairs for all tests of this folder."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from export.hers.grammar import DOMAINS, Prompt, candidates
from export.hers.pairs import make_pairs
from export.hers.pipeline import open_base
from export.hers.tiny import make_tiny

torch.set_num_threads(1)
SIZE = 64
PROMPTS = [prompt for domain in DOMAINS for prompt in itertools.islice(candidates(domain, 0), 3)]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny") / "sdxl")


@pytest.fixture(scope="session")
def pipe(base: Path) -> Any:
    return open_base(str(base))


@pytest.fixture(scope="session")
def pairs(pipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    make_pairs(pipe, PROMPTS, folder, None, steps=2, size=SIZE)
    return folder


def first(domain: str) -> Prompt:
    return next(prompt for prompt in PROMPTS if prompt.domain == domain)
