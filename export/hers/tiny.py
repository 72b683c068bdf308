"""A real SDXL or SD 1.5 pipeline of about a million parameters with random weights, made offline from configurations.

Its pictures are noise; its graph, files, schedulers and LoRA are the real ones. For tests and for trying the commands:

    python -m export.hers.tiny --out folder
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

Kind = Literal["sdxl", "sd15"]
_LENGTH = 77  # of CLIP's text window


def make_tiny(folder: Path, kind: Kind = "sdxl", *, seed: int = 0, width: int = 32) -> Path:
    """Write the pipeline to `folder` and return it; the same seed gives the same weights."""
    torch.manual_seed(seed)
    tokenizer = _tokenizer(folder / "words")
    words = len(tokenizer)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(width, 2 * width),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        cross_attention_dim=64 if kind == "sdxl" else 32,
        norm_num_groups=8,
        **(_SDXL if kind == "sdxl" else {}),
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 16, 16, 16),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        sample_size=64,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )
    text = CLIPTextConfig(
        vocab_size=words,
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=32,
        max_position_embeddings=_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    pipe: Any
    if kind == "sdxl":
        pipe = StableDiffusionXLPipeline(
            vae, CLIPTextModel(text), CLIPTextModelWithProjection(text), tokenizer, tokenizer, unet, scheduler
        )
    else:
        pipe = StableDiffusionPipeline(
            vae, CLIPTextModel(text), tokenizer, unet, scheduler, None, None, requires_safety_checker=False
        )
    pipe.save_pretrained(folder, safe_serialization=True)
    return folder


_SDXL: dict[str, Any] = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "transformer_layers_per_block": (1, 2),
    "projection_class_embeddings_input_dim": 6 * 8 + 32,  # six sizes and the pooled text
}


def _tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's tokenizer over single bytes: no merges, so that no file has to be fetched."""
    folder.mkdir(parents=True, exist_ok=True)
    symbols = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256))]
    symbols += [chr(256 + n) for n in range(256 - len(symbols))]  # CLIP's byte alphabet
    names = [*symbols, *(f"{symbol}</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return CLIPTokenizer(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        pad_token="<|endoftext|>",
        model_max_length=_LENGTH,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a tiny diffusion pipeline with random weights.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kind", choices=("sdxl", "sd15"), default="sdxl")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(make_tiny(args.out, args.kind, seed=args.seed))


if __name__ == "__main__":
    main()
