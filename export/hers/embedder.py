"""Sentence embeddings from any local transformers text encoder, for the second likeness filter (paper: eq. 9)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer


def mean_pooled(folder: Path) -> Callable[[str], NDArray[np.float32]]:
    """Text -> L2-normalised mean of the last hidden states, float32 [d]."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()

    @torch.inference_mode()
    def embed(text: str) -> NDArray[np.float32]:
        states = model(**tokenizer(text, return_tensors="pt", truncation=True)).last_hidden_state[0]
        vector = states.float().mean(0)
        return np.asarray(vector / vector.norm(), np.float32)

    return embed
