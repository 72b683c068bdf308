"""Opening a base model, SDXL or SD 1.5, from a folder or (where there is a network) by its hub id; fusing a LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoPipelineForText2Image, DDIMScheduler

from services.common.serving.diffusion import check_base

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def open_base(base: str, *, precision: str = "fp32", device: torch.device | str = "cpu") -> Any:
    """The text-to-image pipeline; only safetensors are read. Raises BaseModelError for a folder that is no base."""
    folder = Path(base)
    local = folder.is_dir()
    if local:
        check_base(folder)
    pipe = AutoPipelineForText2Image.from_pretrained(
        base, dtype=DTYPES[precision], use_safetensors=True, local_files_only=local
    )
    pipe.set_progress_bar_config(disable=True)  # ours counts pictures
    if getattr(pipe, "safety_checker", None) is not None:
        pipe.safety_checker = None  # training data of cars only; the serving generator refuses by its own rules
    return pipe.to(device)


def training_scheduler(pipe: Any) -> DDIMScheduler:
    """The noise schedule that the base was trained with, whatever sampler its folder names."""
    return DDIMScheduler.from_config(pipe.scheduler.config)


def with_lora(pipe: Any, folder: Path) -> Any:
    """Fuse the LoRA in `folder` into the weights: afterwards the graph is the base's own, module by module."""
    pipe.load_lora_weights(str(folder), adapter_name="hers", local_files_only=True)
    pipe.fuse_lora(adapter_names=["hers"])
    pipe.unload_lora_weights()
    return pipe
