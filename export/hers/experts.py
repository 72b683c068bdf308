"""Stage 3, experts: `python -m export.hers.experts --base sdxl --pairs pairs --out experts`; the same command resumes.

One LoRA per slice of the pairs (by default one per domain) on the frozen U-Net's attention projections. All start from
one shared A and B = 0, so that `product` and `mean` agree as far as A stays put. Checkpoints are chosen by alignment:
our judge on rendered prompts of the slice, or the denoising loss on held-out pairs. Several GPUs: `accelerate launch`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from peft import LoraConfig
from PIL import Image
from torch import nn
from tqdm import tqdm

from export.config import load_preset
from export.hers import lora
from export.hers.denoise import Encoded, encode, noise_loss
from export.hers.grammar import Prompt
from export.hers.judge import open_judge
from export.hers.pairs import read_pairs, render
from export.hers.pipeline import open_base, training_scheduler
from export.hers.retention import loss_with
from export.training import Checkpoint
from services.common.serving.diffusion import base_sha256

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]  # what diffusers' own SDXL LoRA training adapts; the paper says nothing
_HELD_OUT = 10  # every tenth pair is for choosing the checkpoint

Score = Callable[[Path], float]


@dataclass(frozen=True)
class Config:
    """One training run; see export/presets/hers-*.yaml. `partition` is the column whose values are the experts."""

    partition: str = "domain"
    rank: int = 16
    alpha: float = 16.0
    learning_rate: float = 1e-4
    weight_decay: float = 1e-2
    batch: int = 4
    accumulate: int = 8
    steps: int = 1500
    checkpoint_every: int = 500
    resolution: int = 512
    precision: str = "fp16"
    alignment: str = "judge"  # judge | loss
    least_target: float = 0.0  # pairs whose verdict is below it are not trained on
    seed: int = 0


def add_lora(unet: Any, config: Config) -> list[nn.Parameter]:
    """Adapt `unet` and return what is trained, in float32. The same seed gives every expert the same A."""
    torch.manual_seed(config.seed)
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=TARGETS))
    trained = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    return trained


def train_expert(
    pipe: Any, data: Encoded, folder: Path, config: Config, *, base: str, score: Score | None = None, name: str = ""
) -> Path:
    """Train one expert on `data` and return the folder with the chosen LoRA. Leaves the U-Net as it was.

    Every step's rows, noise and times follow from (seed, step) alone: a run that was killed and goes on ends with the
    weights of one that was not.
    """
    accelerator = Accelerator(mixed_precision="no" if config.precision == "fp32" else config.precision)
    trained = nn.ParameterList(add_lora(pipe.unet, config))
    try:
        optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
        keeper, rng = Checkpoint(folder, config), torch.Generator()
        start, _ = keeper.resume(rng, lora=trained, optimizer=optimizer)
        unet, optimizer = accelerator.prepare(pipe.unet, optimizer)
        scheduler = training_scheduler(pipe)
        bar = tqdm(range(start, config.steps), desc=f"expert {name}", unit="step", initial=start, total=config.steps)
        for step in bar:
            loss = 0.0
            for micro in range(config.accumulate):
                number = step * config.accumulate + micro
                rows, noise, when = _micro_batch(data, config, number, accelerator.process_index)
                times = (when * scheduler.config.num_train_timesteps).long().to(accelerator.device)
                error = noise_loss(
                    unet, scheduler, rows.to(accelerator.device), noise.to(accelerator.device), times
                ).mean()
                accelerator.backward(error / config.accumulate)
                loss += float(error.detach()) / config.accumulate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            bar.set_postfix(loss=f"{loss:.4f}")
            done = step + 1
            if accelerator.is_main_process and (done % config.checkpoint_every == 0 or done == config.steps):
                lora.write(folder / f"step-{done}", lora.of_unet(pipe.unet), base=base, notes={"expert": name})
                keeper.save(done, 0.0, rng, lora=trained, optimizer=optimizer)
                keeper.record(step=done, loss=loss)
        accelerator.wait_for_everyone()
    finally:
        pipe.unet.unload_lora()
    return choose(folder, score) if accelerator.is_main_process else folder


def _micro_batch(
    data: Encoded, config: Config, number: int, process: int
) -> tuple[Encoded, torch.Tensor, torch.Tensor]:
    """Rows, noise and draws in [0, 1) for the times, from the number of the micro batch alone."""
    draw = torch.Generator().manual_seed((config.seed * 1_000_003 + number) * 64 + process)
    rows = data.rows(torch.randint(len(data), (config.batch,), generator=draw))
    return rows, torch.randn(rows.latents.shape, generator=draw), torch.rand(config.batch, generator=draw)


def choose(folder: Path, score: Score | None) -> Path:
    """Score every checkpoint once (scores are kept) and copy the best, or without score the last, to `folder`."""
    steps = sorted(folder.glob("step-*"), key=lambda path: int(path.name.split("-")[1]))
    kept = folder / "alignment.json"
    scores: dict[str, float] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for path in steps if score else []:
        if path.name not in scores:
            scores[path.name] = score(path)  # type: ignore[misc]
            kept.write_text(json.dumps(scores, indent=1), encoding="utf-8")
    best = max(steps, key=lambda path: scores[path.name]) if score else steps[-1]
    (folder / lora.LORA_FILE).write_bytes((best / lora.LORA_FILE).read_bytes())
    return folder


def loss_score(pipe: Any, data: Encoded, config: Config) -> Score:
    """Minus the denoising loss on held-out pairs, at fixed noise and ten times: cheap, and steady enough to rank."""

    def score(folder: Path) -> float:
        return -loss_with(pipe, data, folder, seed=config.seed)

    return score


def judge_score(pipe: Any, prompts: Sequence[Prompt], config: Config) -> Score:
    """Mean verdict of our judge on pictures of the slice's held-out prompts."""
    judge, asked = open_judge("packs"), [prompt for prompt in prompts if prompt.damage][:16]

    def score(folder: Path) -> float:
        pipe.load_lora_weights(str(folder), adapter_name="tried", local_files_only=True)
        try:
            photos = (render(pipe, [p.text], [config.seed + n], size=config.resolution) for n, p in enumerate(asked))
            return float(np.mean([judge(photo[0], p).target for photo, p in zip(photos, asked, strict=True)]))
        finally:
            pipe.unload_lora_weights()

    return score


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Train one LoRA for each slice of the pairs; the same command resumes."
    )
    parser.add_argument("--base", required=True, help="diffusers folder (SDXL or SD 1.5)")
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", default="hers-small", help="hers-small, hers-paper, or a YAML file")
    args = parser.parse_args()
    config = load_preset(Config, args.preset)
    slices: dict[str, list[tuple[Path, Prompt]]] = {}
    for path, prompt, _ in read_pairs(args.pairs, least=config.least_target):
        slices.setdefault(str(getattr(prompt, config.partition) or "none"), []).append((path, prompt))
    base, device = base_sha256(Path(args.base)), Accelerator().device
    for name, pairs in slices.items():
        # Half precision for the frozen weights, float32 for what is trained.
        pipe = open_base(args.base, precision=config.precision, device=device)
        photos = [np.asarray(Image.open(path).convert("RGB"), np.uint8) for path, _ in pairs]
        data = encode(pipe, photos, [prompt.text for _, prompt in pairs], config.resolution)
        held = [n for n in range(len(pairs)) if n % _HELD_OUT == 0]
        score = (
            judge_score(pipe, [pairs[n][1] for n in held], config)
            if config.alignment == "judge"
            else loss_score(pipe, data.rows(held), config)
        )
        rest = [n for n in range(len(pairs)) if n % _HELD_OUT] or held
        print(train_expert(pipe, data.rows(rest), args.out / name, config, base=base, score=score, name=name))


if __name__ == "__main__":
    main()
