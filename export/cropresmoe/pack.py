"""From a training run to packs: `python -m export.cropresmoe.pack --run runs/cls --data ../data --out models`.

Fits temperature, embedding and vote, exports ONNX with its golden outputs, writes `<out>/cropresmoe/<version>` and
the memory of training-crop embeddings `<out>/memory/<version>`, and states in both what was measured on which photos.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save
from torch import Tensor, nn

from export.convert.to_onnx import run, to_onnx
from export.cropresmoe.calibrate import Projection
from export.cropresmoe.model import CropResMoE

OUTPUTS = ("logits", "gates", "embedding")
GOLDEN = 2  # crops of noise whose outputs the pack keeps


class Served(nn.Module):
    """What the pack promises: uint8 crops [B, S, S, 3] -> logits [B, C], gates [B, 5], embedding [B, k] of length one."""

    def __init__(self, model: CropResMoE, projection: Projection) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("centre", torch.from_numpy(projection.centre))
        self.register_buffer("matrix", torch.from_numpy(projection.matrix))

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, gates, x = self.model(crops)
        y = (x - self.get_buffer("centre")) @ self.get_buffer("matrix")
        return logits, gates, y / y.norm(dim=1, keepdim=True).clamp(min=1e-6)


def backbone_hash(model: CropResMoE, projection: Projection, preprocessing: dict[str, object]) -> str:
    """SHA-256 over backbone weights, projection and preprocessing: what decides where a crop lies in the memory.

    Head, temperature and precision are left out: they may change without a new index.
    """
    digest = hashlib.sha256(json.dumps(preprocessing, sort_keys=True).encode())
    for name, value in sorted(model.backbone.state_dict().items()):
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    digest.update(projection.centre.tobytes() + projection.matrix.tobytes())
    return digest.hexdigest()


def graph_and_golden(served: Served, size: int, seed: int = 0) -> tuple[bytes, bytes]:
    """The ONNX graph and a safetensors file of inputs and CPU outputs that every server checks before it is ready."""
    rng = np.random.default_rng(seed)
    # Smooth noise: pure noise saturates the first layers, and no photo looks like it.
    coarse = torch.from_numpy(rng.integers(0, 256, (8, 3, 8, 8)).astype(np.float32))
    smooth = nn.functional.interpolate(coarse, (size, size), mode="bilinear").to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    graph = to_onnx(served, smooth, "crops", OUTPUTS)
    crops = smooth[:GOLDEN].numpy()
    outputs = run(graph, {"crops": crops})
    return graph, save({"crops": crops, **dict(zip(OUTPUTS, outputs, strict=True))})


def memory_file(embedding: NDArray[np.float32], labels: NDArray[np.int64], size: NDArray[np.int64], image: NDArray[np.int64]) -> bytes:
    """`memory.safetensors`: one row per training crop, no photo and no name in it."""
    return save(
        {
            "embedding": embedding.astype(np.float16),
            "label": labels.astype(np.uint8),
            "size": size.astype(np.uint8),
            "image": image.astype(np.int32),
        }
    )
