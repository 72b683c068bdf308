"""What both trainers share: schedule, moving average, checkpoints that survive a kill, bf16 where it is fast."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from services.common.serving.modelpack import PackError

M = TypeVar("M", bound=nn.Module)
_MAY_CHANGE = ("epochs", "minutes")  # settings that a resumed run may have other values of


@dataclass
class Schedule:
    """Linear warm-up, then a cosine to zero, over a number of steps or over a time budget (`minutes` > 0).

    With a time budget the run ends when the budget is spent, whatever epoch that is: on a shared CPU nobody knows the
    speed beforehand, and a cosine that is cut off leaves weights that were never cooled down.
    """

    steps: int
    minutes: float = 0.0
    warmup: float = 0.05
    spent: float = 0.0  # seconds of earlier runs

    def __post_init__(self) -> None:
        self._start = time.monotonic() - self.spent

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def share(self, step: int) -> float:
        """How much of the run is done, in [0, 1]."""
        return min(1.0, self.seconds / 60 / self.minutes if self.minutes else step / self.steps)

    def factor(self, share: float) -> float:
        """What the learning rate is multiplied by when `share` of the run is done."""
        return min(1.0, share / self.warmup + 0.01) * 0.5 * (1 + math.cos(math.pi * share))


def place(model: M, device: torch.device) -> M:
    """The model on `device`, in the memory layout that convolutions are fastest in."""
    model.to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def take_step(loss: Tensor, model: nn.Module, optimizer: torch.optim.Optimizer, *, clip: float = 5.0) -> None:
    """One optimiser step with gradients clipped to a norm of `clip`."""
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward([loss])
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()


def trainer_arguments(description: str, preset: str, **folders: str) -> argparse.Namespace:
    """The command line of every trainer; sets the number of threads. `folders`: further options and their help."""
    parser = argparse.ArgumentParser(description=f"{description}; the same command resumes.")
    parser.add_argument("--data", type=Path, required=True, help="folder with damage/ and parts/ (COCO)")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint and log")
    parser.add_argument("--preset", default=preset, help="a name in export/presets or a YAML file")
    parser.add_argument("--minutes", type=float, help="time budget instead of the preset's")
    parser.add_argument("--weights", type=Path, help="local ImageNet weights instead of the installed package's")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves the choice to PyTorch")
    parser.add_argument("--all-licences", action="store_true", help="train on photos of unclear licence too")
    for name, words in folders.items():
        parser.add_argument(f"--{name}", type=Path, help=words)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    return arguments


@contextmanager
def commands_error() -> Iterator[None]:
    """What is wrong with a command's data or files ends it with one line, not with a traceback."""
    try:
        yield
    except (ValueError, FileNotFoundError, PackError) as error:  # CocoError is a ValueError
        raise SystemExit(f"error: {error}") from None


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fast_bf16(device: torch.device) -> bool:
    """Whether bf16 is quicker than fp32 here: every GPU of today, and CPUs with bf16 instructions."""
    return device.type == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@torch.no_grad()
def average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    """Exponential moving average of all weights; integer buffers are copied."""
    for a, p in zip(averaged.state_dict().values(), model.state_dict().values(), strict=True):
        if a.dtype.is_floating_point:
            a.lerp_(p, 1 - decay)
        else:
            a.copy_(p)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a trainer saved; tensors and plain values only. Raises ValueError for any other file, naming it."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such checkpoint") from None
    except Exception as error:  # torch raises many kinds for files that are not its own
        raise ValueError(f"{path}: cannot be read as a checkpoint: {str(error).splitlines()[0]}") from error
    if not isinstance(state, dict) or not {"config", "averaged"} <= state.keys():
        raise ValueError(f"{path}: holds no `config` and `averaged`: not a checkpoint of a trainer here")
    return state


def must_have_names(state: dict[str, Any], names: list[str] | None, path: Path) -> None:
    """Raises ValueError where a checkpoint's outputs mean something else than `names`, naming the first difference."""
    trained = state.get("names")
    if trained is None or names is None or trained == names:
        return
    at = next(
        (i for i, (a, b) in enumerate(zip(trained, names, strict=False)) if a != b), min(len(trained), len(names))
    )
    was, now = (repr(x[at]) if at < len(x) else "nothing" for x in (trained, names))
    raise ValueError(f"{path}: its label map is another one: entry {at} is {was} there and {now} here")


def _filled(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Settings of an older run with the defaults of those that it did not know, also inside groups of settings."""
    groups = {k: _filled(v, defaults[k]) for k, v in values.items() if isinstance(v, dict) and k in defaults}
    return {**defaults, **values, **groups}


class Checkpoint:
    """`folder/checkpoint.pt`: everything a run needs to go on, replaced atomically; `folder/log.jsonl`: its curve."""

    def __init__(self, folder: Path, config: Any, names: list[str] | None = None) -> None:
        """`names`: what the outputs mean, in their order; a run with other names is refused."""
        folder.mkdir(parents=True, exist_ok=True)
        self.names = names
        self.path, self.log = folder / "checkpoint.pt", folder / "log.jsonl"
        self.config: dict[str, Any] = asdict(config)
        self.defaults: dict[str, Any] = asdict(type(config)())  # of settings that an older run did not know

    def save(
        self, epoch: int, seconds: float, rng: torch.Generator, **parts: nn.Module | torch.optim.Optimizer
    ) -> None:
        state: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
        torch.save(
            {
                "config": self.config,
                "names": self.names,
                "epoch": epoch,
                "seconds": seconds,
                "rng": rng.get_state(),
                **state,
            },
            self.path.with_suffix(".tmp"),
        )
        self.path.with_suffix(".tmp").replace(self.path)  # a kill in mid-write leaves the former checkpoint

    def resume(self, rng: torch.Generator, **parts: nn.Module | torch.optim.Optimizer) -> tuple[int, float]:
        """Load everything back; (epoch to go on with, seconds spent), or (0, 0.0) for a new run.

        Raises ValueError when the checkpoint was trained with another configuration, or came out of a pack.
        """
        if not self.path.exists():
            return 0, 0.0
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        before = _filled(state["config"], self.defaults)
        changed = [k for k, v in self.config.items() if before[k] != v and k not in _MAY_CHANGE]
        if changed:
            raise ValueError(
                f"{self.path} was trained with another {changed[0]}: choose another --out or the same configuration"
            )
        must_have_names(state, self.names, self.path)
        if not parts.keys() <= state.keys():
            raise ValueError(f"{self.path} holds weights only: choose another --out and start from it (--init)")
        for name, part in parts.items():
            part.load_state_dict(state[name])
        rng.set_state(state["rng"])
        return int(state["epoch"]), float(state["seconds"])

    def record(self, **row: float) -> None:
        with self.log.open("a", encoding="utf-8") as f:
            f.write(json.dumps({k: round(v, 4) for k, v in row.items()}) + "\n")


def mean_of(sums: dict[str, Tensor], count: int) -> dict[str, float]:
    return {name: float(value) / max(count, 1) for name, value in sums.items()}
