"""Answers of a frozen model on a split, computed once and kept.

A cached pass serves three things: heads that train in seconds (the paper's frozen mode), a teacher's logits for
distillation, and the ablation's table.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from export.cropresmoe.config import cutting
from export.cropresmoe.dataset import Cut, Protocol, load_crops
from export.cropresmoe.runs import load_run
from export.labels import Labels

BATCH = 32


@dataclass(frozen=True)
class Features:
    """n crops of one split behind a frozen model. `image` groups crops of one photo; `size` indexes `SIZES`."""

    x: NDArray[np.float32]  # [n, d], pooled
    logits: NDArray[np.float32]  # [n, C], of the model's own head
    labels: NDArray[np.int64]
    image: NDArray[np.int64]
    size: NDArray[np.int64]


def key(model: nn.Module, cut: Cut, protocol: Protocol, annotations: bytes, all_licences: bool) -> str:
    """SHA-256 over everything that decides the features: weights, cut, choice of crops, the annotation file."""
    digest = hashlib.sha256(repr((asdict(cut), asdict(protocol), all_licences)).encode() + annotations)
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def features(
    model: nn.Module,
    data: Path,
    split: str,
    labels: Labels,
    *,
    cut: Cut,
    cache: Path,
    protocol: Protocol = Protocol(),  # frozen
    all_licences: bool = True,
) -> Features:
    """From `cache` where it holds this very pass, else computed and put there. Raises CocoError for a bad split."""
    annotations = (data / "damage" / f"{split}.json").read_bytes()
    path = cache / f"{split}-{key(model, cut, protocol, annotations, all_licences)[:16]}.safetensors"
    if path.is_file():
        return Features(**load_file(path))
    crops, _ = load_crops(data, split, labels, cut, protocol=protocol, all_licences=all_licences, wide=False)
    model.eval()
    rows = []
    with torch.no_grad():
        for i in tqdm(range(0, len(crops.labels), BATCH), desc=f"features of {split}", mininterval=5):
            logits, _, x = model(torch.from_numpy(crops.served[i : i + BATCH]))
            rows.append((x.float().numpy(), logits.float().numpy()))
    found = Features(
        x=np.concatenate([r[0] for r in rows]),
        logits=np.concatenate([r[1] for r in rows]),
        labels=crops.labels,
        image=crops.image,
        size=crops.size,
    )
    cache.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    save_file(vars(found), beside)
    beside.replace(path)
    return found


def teacher_answers(
    run: Path, data: Path, labels: Labels, protocol: Protocol, cache: Path, *, all_licences: bool
) -> Tensor:
    """Logits [n, C] of a run on the training crops in `load_crops`' order, for distillation.

    Once per crop, as serving would cut it, not per augmented view: a patient teacher that looks at every view is
    better (Beyer et al. 2022) and costs as much as the student on every step.
    """
    model, config = load_run(run, list(labels.vocabulary.classes))
    cut, _ = cutting(config)
    shown = replace(protocol, whole=False)  # the teacher sees the damage, whatever the student does
    found = features(model, data, "train", labels, cut=cut, cache=cache, protocol=shown, all_licences=all_licences)
    return torch.from_numpy(found.logits)
