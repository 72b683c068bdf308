"""Denoising-loss retention: how much of what each expert learned is left after merging, and what neutral photos lose.

Base, experts and merges see the same pairs, the same noise and the same ten times, so that small differences count.
Retention of a domain is (base - merged) / (base - its expert): 1 keeps all, 0 nothing, below 0 is worse than the base.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from export.hers.denoise import Encoded, noise_loss
from export.hers.pipeline import training_scheduler

_TIMES = 10


@torch.inference_mode()
def fixed_loss(pipe: Any, data: Encoded, *, seed: int = 0) -> float:
    """Mean loss over all rows at ten times and fixed noise."""
    scheduler = training_scheduler(pipe)
    steps = ((torch.arange(_TIMES, device=pipe.device) + 0.5) * scheduler.config.num_train_timesteps / _TIMES).long()
    total = 0.0
    for number in range(len(data)):
        noise = torch.randn((1, *data.latents.shape[1:]), generator=torch.Generator().manual_seed(seed * 7919 + number))
        rows = data.rows([number] * _TIMES).to(pipe.device)
        noise = noise.to(pipe.device).expand_as(rows.latents)
        total += float(noise_loss(pipe.unet, scheduler, rows, noise, steps).mean())
    return total / len(data)


def loss_with(pipe: Any, data: Encoded, folder: Path, *, seed: int = 0) -> float:
    """The same with the LoRA of `folder` on; the pipeline is left as it was."""
    pipe.load_lora_weights(str(folder), adapter_name="measured", local_files_only=True)
    try:
        return fixed_loss(pipe, data, seed=seed)
    finally:
        pipe.unload_lora_weights()


def table(
    pipe: Any, held_out: Mapping[str, Encoded], experts: Mapping[str, Path], merges: Mapping[str, Path]
) -> dict[str, dict[str, float]]:
    """domain -> {base, expert, <merge>..., <merge> retention...}. A domain without expert (neutral photos) has no
    retention: there, a merge should not be above the base."""
    rows: dict[str, dict[str, float]] = {}
    for domain, data in held_out.items():
        row = {"base": fixed_loss(pipe, data)}
        row |= {f"{name} expert": loss_with(pipe, data, folder) for name, folder in experts.items()}
        for name, folder in merges.items():
            row[name] = loss_with(pipe, data, folder)
            if domain in experts:
                gained = row["base"] - row[f"{domain} expert"]
                row[f"{name} retention"] = (row["base"] - row[name]) / gained if abs(gained) > 1e-9 else float("nan")
        rows[domain] = row
    return rows
