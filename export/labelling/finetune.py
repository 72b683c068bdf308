"""Let the head learn from reviewed crops: `python -m export.labelling.finetune --run runs/cls --data D --reviewed R`.

R/damage/reviewed.json is what `export.labelling.reviewed` and `export.labelling.corrected` write. The backbone stays as
it is, so the memory and its index stay valid; the head trains on features of the old and the new crops together. Says
by how much the accuracy on the frozen test split changes, paired by crop, and writes a run that
`export.cropresmoe.pack` packs. Features are kept beside it: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from export.cropresmoe.dataset import Cut, load_crops
from export.cropresmoe.runs import load_run
from export.cropresmoe.train import predict
from export.labelling.corrected import SPLIT
from export.labels import load_labels
from export.statistics import bootstrap_mean
from export.training import commands_error

_BATCH = 64


def fit_head(head: nn.Module, features: Tensor, labels: Tensor, *, epochs: int, lr: float, seed: int = 0) -> None:
    """Train `head` on features [n, d] -> classes [n] by cross-entropy; AdamW with a cosine."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=0.02)
    steps = epochs * -(-len(labels) // _BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    head.train()
    for _ in tqdm(range(epochs), desc="head", unit="epoch"):
        for index in torch.randperm(len(labels), generator=generator).split(_BATCH):  # type: ignore[no-untyped-call]
            loss = F.cross_entropy(head(features[index])[0], labels[index], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    head.eval()


def features(model: nn.Module, crops: NDArray[np.uint8], kept: Path, named: str) -> Tensor:
    """Features [n, d] of uint8 crops [n, S, S, 3], batch by batch into a folder that the crops and `named` give.

    A backbone takes minutes for thousands of crops on a CPU, and its answers do not change.
    """
    meant = hashlib.sha256(named.encode())
    meant.update(np.ascontiguousarray(crops).data)
    folder = kept / meant.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for start in tqdm(range(0, len(crops), _BATCH), desc=f"features of {len(crops)} crops", unit="batch"):
        path = folder / f"{start:06}.npy"
        if not path.is_file():
            made = predict(model, torch.from_numpy(crops[start : start + _BATCH]), _BATCH)[2].numpy()
            beside = path.with_suffix(".part")
            with beside.open("wb") as file:
                np.save(file, made)
            beside.replace(path)
        parts.append(torch.from_numpy(np.load(path, allow_pickle=False)))
    return torch.cat(parts)


def right(head: nn.Module, features: Tensor, labels: Tensor, taught: Tensor) -> NDArray[np.bool_]:
    """bool [n]: whether the best class that any photo taught is the true one."""
    with torch.no_grad():
        logits = head(features)[0].masked_fill(~taught, float("-inf"))
    return np.asarray((logits.argmax(1) == labels).numpy(), bool)


def main() -> None:
    parser = argparse.ArgumentParser(description="Fine-tune a classifier's head on reviewed crops.")
    parser.add_argument("--run", type=Path, required=True, help="a run, or a pack made one by export.convert.to_run")
    parser.add_argument("--data", type=Path, required=True, help="train and test splits")
    parser.add_argument("--reviewed", type=Path, required=True, help="folder with damage/reviewed.json")
    parser.add_argument("--out", type=Path, required=True, help="run folder to write")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--lr", type=float, default=1e-4)
    with commands_error():
        print(run(parser.parse_args()))


def run(args: argparse.Namespace) -> str:
    """Fine-tune, write the run and say by how much accuracy changed. Raises ValueError for a run that does not fit."""
    labels = load_labels()
    model, config = load_run(args.run, list(labels.vocabulary.classes))
    cut = Cut(config.size, config.context)
    places = {SPLIT: args.reviewed, "test": args.data, "train": args.data}
    found = {
        split: load_crops(data, split, labels, cut, all_licences=split != "train", wide=False)[0]
        for split, data in places.items()
    }
    with (args.run / "checkpoint.pt").open("rb") as file:
        backbone = hashlib.file_digest(file, "sha256").hexdigest()
    seen = {split: features(model, crops.served, args.out / "features", backbone) for split, crops in found.items()}
    truths = {split: torch.from_numpy(crops.labels) for split, crops in found.items()}
    taught = torch.bincount(truths["train"], minlength=len(labels.vocabulary.classes)) > 0
    before = right(model.head, seen["test"], truths["test"], taught)
    together = [torch.cat([part["train"], part[SPLIT]]) for part in (seen, truths)]
    fit_head(model.head, together[0], together[1], epochs=args.epochs, lr=args.lr)
    after = right(model.head, seen["test"], truths["test"], taught)
    state = torch.load(args.run / "checkpoint.pt", map_location="cpu", weights_only=True)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.save({**state, "averaged": model.state_dict()}, args.out / "checkpoint.pt")
    change = after.astype(float) - before
    low, high = bootstrap_mean(change, found["test"].image)
    return (
        f"{len(truths[SPLIT])} reviewed crops. Test accuracy {before.mean():.4f} -> {after.mean():.4f}: "
        f"{change.mean():+.4f} ({low:+.4f} to {high:+.4f}), n = {len(change)}. Written to {args.out}."
    )


if __name__ == "__main__":
    main()
