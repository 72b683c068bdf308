"""The model: loaded once, the LoRA fused into its weights, drawing one picture at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from diffusers import AutoPipelineForInpainting, AutoPipelineForText2Image
from numpy.typing import NDArray
from safetensors import safe_open

from services.common.serving.diffusion import BASE_KEY, BaseModelError, base_sha256, check_base
from services.common.serving.errors import Unprocessable
from services.common.serving.generation import Ask, GeneratorModel
from services.generator.inpaint import Canvas
from services.generator.settings import Settings

log = structlog.get_logger(__name__)
_LORA_FILE = "pytorch_lora_weights.safetensors"
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Canceled(Exception):
    """Raised between two denoising steps of a generation that nobody wants any more."""


class Engine:
    """A pipeline on one device. Not safe to call twice at once: whoever owns it has one thread for it."""

    def __init__(self, settings: Settings) -> None:
        """Loads the model; raises BaseModelError, saying what to do."""
        assert settings.base_model is not None
        kind = check_base(settings.base_model)
        base = base_sha256(settings.base_model)
        device = settings.device if settings.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        precision = settings.precision if settings.precision != "auto" else "fp16" if device == "cuda" else "fp32"
        try:
            self._pipe: Any = AutoPipelineForText2Image.from_pretrained(
                settings.base_model,
                dtype=_DTYPES[precision],
                use_safetensors=True,
                local_files_only=True,
            ).to(device)
        except Exception as error:  # diffusers answers a broken folder with whatever its dozen loaders raise
            log.exception("the base model cannot be loaded")
            raise BaseModelError(f"The base model {settings.base_model} cannot be loaded; the log says why.") from error
        lora = _fuse(self._pipe, settings.lora, base) if settings.lora else None
        self._painter: Any = AutoPipelineForInpainting.from_pipe(self._pipe)
        for pipe in (self._pipe, self._painter):
            pipe.set_progress_bar_config(disable=True)
        if settings.tiling:
            self._pipe.vae.enable_tiling()
        if settings.compile:
            self._pipe.unet.compile()
        self._tokenizer = deepcopy(self._pipe.tokenizer)  # the fast ones cannot be shared between threads
        self.model = GeneratorModel(kind=kind, base_sha256=base, lora_sha256=lora, device=device, precision=precision)

    def check(self, ask: Ask) -> None:
        """Refuse a prompt whose end the text encoder would not see. Raises Unprocessable."""
        limit = self._tokenizer.model_max_length
        for prompt in (*ask.prompts, ask.negative_prompt):
            count = len(self._tokenizer(prompt, truncation=False).input_ids)
            if count > limit:
                raise Unprocessable(f"A prompt has {count} tokens; the model reads {limit}. Shorten it.")

    def draw(
        self, ask: Ask, number: int, stepped: Callable[[], None], canvas: Canvas | None = None
    ) -> NDArray[np.uint8]:
        """Picture `number` of `ask`, uint8 [h, w, 3]; `stepped` is called after each step and may raise Canceled.

        Noise is drawn on the CPU: the same seed gives the same noise on every device.
        """

        def after(_pipe: Any, _step: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            stepped()
            return tensors

        how: dict[str, Any] = {
            "prompt": ask.prompts[number],
            "negative_prompt": ask.negative_prompt or None,
            "num_inference_steps": ask.steps,
            "guidance_scale": ask.guidance,
            "width": ask.width,
            "height": ask.height,
            "generator": torch.Generator("cpu").manual_seed(ask.seed + number),
            "callback_on_step_end": after,
        }
        with torch.inference_mode():
            if canvas is None:
                return np.asarray(self._pipe(**how).images[0].convert("RGB"), np.uint8)
            assert ask.inpaint is not None
            photo, mask = canvas.patch(ask.width, ask.height)
            drawn = self._painter(**how, image=photo, mask_image=mask, strength=ask.inpaint.strength).images[0]
        return canvas.paste(drawn)

    def steps(self, ask: Ask) -> int:
        """How many steps one picture takes: inpainting leaves out what its strength keeps."""
        return ask.steps if ask.inpaint is None else max(1, min(int(ask.steps * ask.inpaint.strength), ask.steps))


def _fuse(pipe: Any, folder: Path, base: str) -> str:
    """Fuse the LoRA into the weights and return its hash: the graph has the base's modules and shapes afterwards."""
    path = folder / _LORA_FILE if folder.is_dir() else folder
    try:
        with safe_open(path, "pt") as file:
            theirs = (file.metadata() or {}).get(BASE_KEY, "")
    except Exception as error:
        raise BaseModelError(f"The LoRA {path} cannot be read as safetensors.") from error
    if theirs and theirs != base:
        raise BaseModelError(
            f"The LoRA {path} was made for another base model ({theirs[:12]}..., this one is {base[:12]}...). "
            "Set CLAIMSIGHT_GENERATOR_LORA to one of this base."
        )
    try:
        pipe.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name="hers", local_files_only=True)
        pipe.fuse_lora(adapter_names=["hers"])
        pipe.unload_lora_weights()
    except (
        Exception
    ) as error:  # a LoRA of another architecture fails as a RuntimeError of torch, a ValueError of peft, ...
        log.exception("the LoRA cannot be fused")
        raise BaseModelError(f"The LoRA {path} does not fit the base model; the log says why.") from error
    return hashlib.sha256(path.read_bytes()).hexdigest()
