"""One process of several that train together; writes what it saw and ended with to `<room>/rank-<rank>.json`."""

from __future__ import annotations

import functools
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from accelerate import PartialState
from torch import Tensor, nn

from export import training
from export.cropresmoe import data, train


def digest(*tensors: Tensor) -> str:
    return hashlib.sha256(b"".join(t.detach().contiguous().numpy().tobytes() for t in tensors)).hexdigest()


def main(room: Path) -> None:
    torch.set_num_threads(1)
    rank = PartialState(cpu=True).process_index
    clock = mock.Mock(monotonic=lambda: (1 + rank) * time.monotonic())
    runs: list[dict[str, Any]] = []
    fit, augment = train.train, data.augment

    @functools.wraps(fit)
    def fitted(*given: Any, **options: Any) -> nn.Module:
        runs.append({"steps": []})
        model = fit(*given, **options)
        runs[-1]["weights"] = digest(*model.state_dict().values())
        return model

    @functools.wraps(augment)
    def watched(crops: Tensor, size: int, context: float, rng: torch.Generator) -> Tensor:
        runs[-1]["steps"].append({"crops": [digest(crop) for crop in crops], "chance": digest(rng.get_state())})
        return augment(crops, size, context, rng)

    for out, preset, *more in (
        ("run", "one.yaml"),
        ("run", "two.yaml"),
        ("taught", "taught.yaml", "--teacher", str(room / "run")),
    ):
        paths = ("--data", room / "data", "--out", room / out, "--preset", room / preset)
        sys.argv = ["train", *map(str, paths), *more]
        with (
            mock.patch.object(training, "time", clock),
            mock.patch.object(train, "train", fitted),
            mock.patch.object(train, "augment", watched),
        ):
            train.main()
    (room / f"rank-{rank}.json").write_text(json.dumps(runs))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
