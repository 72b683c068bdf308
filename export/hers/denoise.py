"""The training objective: predicting the noise on latents (eps or v, as the base was trained).

Paper: eq. 13 minimises LPIPS on generated images; here: the mean squared error of the predicted noise; because a
gradient through fifty sampling steps is not trainable. Weight decay stands for the Frobenius terms of eq. 13.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Encoded:
    """Pairs as the U-Net sees them: latents [n, 4, h, w], text states [n, 77, d], pooled text [n, p] (SDXL only)."""

    latents: Tensor
    text: Tensor
    pooled: Tensor | None
    size: int  # pixels, both sides

    def __len__(self) -> int:
        return len(self.latents)

    def rows(self, index: Sequence[int] | Tensor) -> Encoded:
        chosen = torch.as_tensor(index)
        pooled = None if self.pooled is None else self.pooled[chosen]
        return Encoded(self.latents[chosen], self.text[chosen], pooled, self.size)

    def to(self, device: torch.device | str) -> Encoded:
        pooled = None if self.pooled is None else self.pooled.to(device)
        return Encoded(self.latents.to(device), self.text.to(device), pooled, self.size)


@torch.no_grad()  # not inference mode: its tensors could not take part in a backward pass
def encode(pipe: Any, photos: Sequence[NDArray[np.uint8]], texts: Sequence[str], size: int) -> Encoded:
    """Encode once, before training: afterwards neither the VAE nor the text encoders are needed. `photos`: RGB."""
    latents, states, pooled = [], [], []
    for photo, text in zip(photos, texts, strict=True):
        pixels = np.asarray(Image.fromarray(photo).resize((size, size), Image.Resampling.LANCZOS), np.float32)
        image = torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None].to(pipe.device, pipe.vae.dtype)
        latents.append((pipe.vae.encode(image).latent_dist.mode() * pipe.vae.config.scaling_factor).float().cpu())
        said = pipe.encode_prompt(text, device=pipe.device, num_images_per_prompt=1, do_classifier_free_guidance=False)
        states.append(said[0].float().cpu())
        if len(said) == 4:  # SDXL: states, none, pooled, none
            pooled.append(said[2].float().cpu())
    return Encoded(torch.cat(latents), torch.cat(states), torch.cat(pooled) if pooled else None, size)


def noise_loss(unet: Any, scheduler: Any, batch: Encoded, noise: Tensor, steps: Tensor) -> Tensor:
    """Squared error of the prediction for each row [n], at the given noise [n, 4, h, w] and time steps [n]."""
    device, dtype = batch.latents.device, next(unet.parameters()).dtype
    noisy = scheduler.add_noise(batch.latents, noise, steps)
    added = {}
    if batch.pooled is not None:
        # SDXL is told the size of the original, the crop's corner and the target size (SDXL, section 2.2).
        ids = torch.tensor([[batch.size, batch.size, 0, 0, batch.size, batch.size]], dtype=dtype, device=device)
        added = {"text_embeds": batch.pooled.to(dtype), "time_ids": ids.repeat(len(batch), 1)}
    predicted = unet(noisy.to(dtype), steps, batch.text.to(dtype), added_cond_kwargs=added).sample.float()
    v = scheduler.config.prediction_type == "v_prediction"
    target = scheduler.get_velocity(batch.latents, noise, steps) if v else noise
    return F.mse_loss(predicted, target.float(), reduction="none").mean((1, 2, 3))
