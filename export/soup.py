"""A model soup: one run whose weights are the mean of several, `python -m export.soup --runs A B --out C`.

Wortsman et al. 2022 (arXiv 2203.05482): runs that went on from the same weights lie in one valley of the loss, and its
middle is often better than any of them. Whether it is, validation photos must tell (`pack --split val`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from export.training import commands_error, must_have_names, read_checkpoint


def soup(runs: Sequence[Path], out: Path) -> Path:
    """Write `out/checkpoint.pt`, which packs and starts other runs but is resumed by none.

    Raises ValueError where `runs` do not hold the same model, naming the first entry that differs.
    """
    path = out / "checkpoint.pt"
    if path.exists():
        raise ValueError(f"{path} exists: choose another --out")
    first, *others = (read_checkpoint(run / "checkpoint.pt") for run in runs)
    for run, other in zip(runs[1:], others, strict=True):
        must_have_names(other, first.get("names"), run / "checkpoint.pt")
        _must_match(first["averaged"], other["averaged"], run)
    ways: list[dict[str, Tensor]] = [first["averaged"], *(other["averaged"] for other in others)]
    mean = {
        name: torch.stack([way[name] for way in ways]).mean(0) if value.dtype.is_floating_point else value
        for name, value in ways[0].items()
    }
    out.mkdir(parents=True, exist_ok=True)
    torch.save({"config": first["config"], "names": first.get("names"), "averaged": mean}, path)
    return path


def _must_match(a: dict[str, Tensor], b: dict[str, Tensor], run: Path) -> None:
    for name in sorted(a.keys() | b.keys()):
        if name not in a or name not in b or a[name].shape != b[name].shape:
            raise ValueError(f"{run}: {name} is missing or of another shape: it is a run of another preset")


def main() -> None:
    parser = argparse.ArgumentParser(description="Average the weights of runs that went on from the same weights.")
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="run folders, two or more")
    parser.add_argument("--out", type=Path, required=True, help="run folder to write")
    args = parser.parse_args()
    with commands_error():
        if len(args.runs) < 2:
            raise ValueError("--runs: name two or more")
        print(soup(args.runs, args.out))


if __name__ == "__main__":
    main()
