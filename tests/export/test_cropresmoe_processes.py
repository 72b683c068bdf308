"""Two processes train one classifier, as `accelerate launch` starts them on GPUs and `torchrun` anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.export.crops_set import write_set

PRESET = "backbone: lite0\nsize: 64\nbatch: 8\nfrozen: 0\nminutes: 10\nepochs: "
PHOTOS, BATCH, STEPS = 12, 8, 3  # two crops a photo


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left: an epoch, another after a new start, and a student's; rank-0.json, rank-1.json."""
    room = tmp_path_factory.mktemp("processes")
    write_set(room / "data", {"train": PHOTOS, "val": 2})
    for name, text in (("one", "1"), ("two", "2"), ("taught", "1\nteacher: 0.5")):
        (room / f"{name}.yaml").write_text(f"{PRESET}{text}\n")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, "-m", "tests.export.launched", str(room)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return room


@pytest.fixture(scope="module")
def ranks(room: Path) -> list[list[dict[str, Any]]]:
    return [json.loads((room / f"rank-{rank}.json").read_text()) for rank in (0, 1)]


def test_two_processes_end_with_the_same_weights_although_their_clocks_differ(
    ranks: list[list[dict[str, Any]]],
) -> None:
    weights = [[run["weights"] for run in runs] for runs in ranks]
    assert weights[0] == weights[1]
    assert len(set(weights[0])) == 3, "each run changed something"


def test_two_processes_share_each_batch_without_overlap_and_see_views_of_their_own(
    ranks: list[list[dict[str, Any]]],
) -> None:
    for ours, others in zip(*ranks, strict=True):
        assert len(ours["steps"]) == len(others["steps"]) == STEPS
        both = [a["crops"] + b["crops"] for a, b in zip(ours["steps"], others["steps"], strict=True)]
        assert [len(crops) for crops in both] == [BATCH] * STEPS
        assert len({crop for crops in both for crop in crops}) == 2 * PHOTOS, "every crop once an epoch"
        assert all(a["chance"] != b["chance"] for a, b in zip(ours["steps"], others["steps"], strict=True))


def test_two_processes_write_one_checkpoint_and_go_on_from_it(room: Path) -> None:
    assert sorted(p.name for p in (room / "run").iterdir()) == ["checkpoint.pt", "log.jsonl"]
    assert torch.load(room / "run/checkpoint.pt", weights_only=True)["epoch"] == 2
    log = [json.loads(line) for line in (room / "run/log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in log] == [1, 2], "one epoch before the new start, one after it, each told once"


def test_two_processes_ask_the_teacher_once(room: Path) -> None:
    assert len(list((room / "taught").glob("train-*.safetensors"))) == 1
    assert not list((room / "taught").glob("*.tmp"))
