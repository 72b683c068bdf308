"""LoRA files in diffusers' format, and which base model they belong to.

Our files fold alpha / r into B, so that a reader that knows nothing of alpha applies them rightly. Metadata names the
base: the SHA-256 of its U-Net's weight files.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from export.hers.merge import Expert, LowRank, MergeError
from services.common.serving.diffusion import BASE_KEY, base_sha256

__all__ = ["BASE_KEY", "LORA_FILE", "base_of", "base_sha256", "read", "write"]

LORA_FILE = "pytorch_lora_weights.safetensors"  # diffusers' own name: a folder with it can be handed to any pipeline
_KEY = re.compile(r"(?:unet\.)?(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")


def write(folder: Path, expert: Expert, *, base: str, notes: dict[str, str] | None = None) -> Path:
    """Write `expert` as diffusers reads it; `base` is the base's `base_sha256`."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for name, part in expert.items():
        tensors[f"unet.{name}.lora_A.weight"] = part.down.clone()  # experts may share one A in memory; a file may not
        tensors[f"unet.{name}.lora_B.weight"] = part.up * part.scale
    path = folder / LORA_FILE
    save_file(tensors, path.with_suffix(".tmp"), {"format": "pt", BASE_KEY: base, **(notes or {})})
    path.with_suffix(".tmp").replace(path)
    return path


def read(folder: Path) -> dict[str, LowRank]:
    """The expert in `folder` (or a file). Raises MergeError for what is no LoRA of a U-Net."""
    path = folder / LORA_FILE if folder.is_dir() else folder
    found: dict[str, dict[str, Tensor]] = {}
    with safe_open(path, "pt") as file:
        alpha = _alpha(file.metadata() or {})
        for key in file.keys():  # noqa: SIM118 - the file is no mapping
            match = _KEY.fullmatch(key)
            if match is None:
                raise MergeError(f"{path}: {key} is no LoRA factor of a U-Net in diffusers' format")
            found.setdefault(match["layer"], {})[match["side"]] = file.get_tensor(key)
    if not found or any(set(sides) != {"A", "B"} for sides in found.values()):
        raise MergeError(f"{path}: not every layer has both factors")
    return {
        name: LowRank(sides["A"], sides["B"], float(sides["A"].shape[0]) if alpha is None else alpha)
        for name, sides in found.items()
    }


def base_of(folder: Path) -> str:
    """The hash of the base that the LoRA was made for; empty where the file does not say."""
    path = folder / LORA_FILE if folder.is_dir() else folder
    with safe_open(path, "pt") as file:
        return str((file.metadata() or {}).get(BASE_KEY, ""))


def _alpha(metadata: dict[str, str]) -> float | None:
    """PEFT's alpha where diffusers wrote one for the U-Net."""
    text = metadata.get("lora_adapter_metadata")
    value = json.loads(text).get("unet.lora_alpha") if text else None
    return float(value) if isinstance(value, int | float) else None


def of_unet(unet: torch.nn.Module, adapter: str = "default") -> dict[str, LowRank]:
    """The factors of a U-Net with a PEFT adapter, on the CPU in float32."""
    from peft.tuners.lora import LoraLayer  # noqa: PLC0415 - importing peft takes seconds, merging does not need it

    found = {}
    for name, module in unet.named_modules():
        if isinstance(module, LoraLayer) and adapter in module.lora_A:
            down, up = (pair[adapter].weight.detach().float().cpu().clone() for pair in (module.lora_A, module.lora_B))
            found[name] = LowRank(down, up, float(module.lora_alpha[adapter]))
    return found
