"""From a training run to packs: `python -m export.cropresmoe.pack --run runs/cls --data ../data --out models`.

Fits temperature, embedding and vote, exports ONNX with its golden outputs, writes `<out>/cropresmoe/<version>` and
the memory of training-crop embeddings `<out>/memory/<version>`, and states in both what was measured on which photos.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save
from torch import Tensor, nn

from export.convert.to_onnx import run, to_onnx
from export.cropresmoe.blending import KS, tune
from export.cropresmoe.calibrate import K, Projection, fit_projection, fit_vote, neighbours
from export.cropresmoe.config import cutting
from export.cropresmoe.dataset import load_crops
from export.cropresmoe.evaluate import markdown_table, metrics
from export.cropresmoe.model import CropResMoE
from export.cropresmoe.runs import load_run
from export.cropresmoe.train import predict
from export.data.coco import Photo, read_coco
from export.labels import load_labels
from export.sources import damage_sources, taught_by
from export.statistics import fit_temperature
from export.training import commands_error
from services.common.serving.modelpack import Input, Manifest, load_pack, write_pack
from services.common.vision.vote import calibrated

OUTPUTS = ("logits", "gates", "embedding")
GOLDEN = 2  # crops of noise whose outputs the pack keeps


class Served(nn.Module):
    """What the pack promises: uint8 crops [B, S, S, 3] -> logits [B, C], gates [B, 5], unit embedding [B, k]."""

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
    smooth = (
        nn.functional.interpolate(coarse, (size, size), mode="bilinear")
        .to(torch.uint8)
        .permute(0, 2, 3, 1)
        .contiguous()
    )
    graph = to_onnx(served, smooth, "crops", OUTPUTS)
    crops = smooth[:GOLDEN].numpy()
    outputs = run(graph, {"crops": crops})
    return graph, save({"crops": crops, **dict(zip(OUTPUTS, outputs, strict=True))})


def memory_file(
    embedding: NDArray[np.float32], labels: NDArray[np.int64], size: NDArray[np.int64], image: NDArray[np.int64]
) -> bytes:
    """`memory.safetensors`: one row per training crop, no photo and no name in it."""
    return save(
        {
            "embedding": embedding.astype(np.float16),
            "label": labels.astype(np.uint8),
            "size": size.astype(np.uint8),
            "image": image.astype(np.int32),
        }
    )


def same_group(queries: list[Photo], memory: list[Photo]) -> NDArray[np.bool_]:
    """[n, m]: whether two crops are of one photo, or of photos that show the same thing."""
    q, m = ([p.group if p.group is not None else str(p.path) for p in photos] for photos in (queries, memory))
    number = {name: i for i, name in enumerate(dict.fromkeys([*q, *m]))}
    return np.asarray(np.array([number[x] for x in q])[:, None] == np.array([number[x] for x in m])[None])


def main() -> None:
    parser = argparse.ArgumentParser(description="Turn a training run into a classifier pack and a memory pack.")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("models"))
    parser.add_argument("--version", default="1")
    parser.add_argument("--size", type=int, help="serve crops at this side instead of the training size")
    parser.add_argument("--split", default="test", help="the split whose numbers the manifest states")
    parser.add_argument("--all-licences", action="store_true", help="the run was trained with --all-licences")
    with commands_error():
        print(make(parser.parse_args()))


def make(args: argparse.Namespace) -> str:
    """Write both packs; answers the table of what was measured. Every file is checked before the first photo is cut."""
    labels = load_labels()
    classes = list(labels.vocabulary.classes)
    model, config = load_run(args.run, classes)
    cut, protocol = cutting(config)
    cut = replace(cut, size=args.size or cut.size)
    for split in ("train", "val", args.split):
        read_coco(args.data / "damage" / f"{split}.json", categories=labels.sources[protocol.source])
    train, train_photos = load_crops(
        args.data, "train", labels, cut, protocol=protocol, all_licences=args.all_licences, wide=False
    )
    val, val_photos = load_crops(args.data, "val", labels, cut, protocol=protocol, wide=False)
    taught = np.bincount(train.labels, minlength=len(classes)) > 0
    _, _, features = predict(model, torch.from_numpy(train.served), 32)
    val_logits, _, val_features = predict(model, torch.from_numpy(val.served), 32)
    logits = val_logits.double().numpy()
    projection = fit_projection(features.numpy())
    temperature = fit_temperature(logits, val.labels, taught)
    memory, queries = projection(features.numpy()), projection(val_features.numpy())
    tau, lam = 0.6, 0.7  # the paper's
    distance, index = neighbours(queries, memory, k=max(KS), same=same_group(val_photos, train_photos))
    within, _ = neighbours(memory, memory, k=1, same=same_group(train_photos, train_photos))
    voters = train.labels[index]
    fitted = fit_vote(
        calibrated(logits, temperature, taught),
        val.labels,
        distance[:, :K],
        voters[:, :K],
        len(classes),
        tau=tau,
        lam=lam,
        within=within[:, 0],
    )
    tuned = tune(logits, val.labels, val.image, distance, voters, taught=taught, names=classes, tau=tau)
    preprocessing: dict[str, object] = {"size": cut.size, "context": cut.context, "resize": cut.resize}
    manifest = Manifest(
        name="cropresmoe",
        version=args.version,
        task="classify",
        created=date.today().isoformat(),
        licence="Apache-2.0 for the code and the initial weights; for the photos' rights see data",
        notes=NOTES.format(photos=taught_by(all_licences=args.all_licences)),
        vocabulary=labels.vocabulary,
        names_hash="",
        supported={"classes": [c for c, known in zip(classes, taught, strict=True) if known]},
        input=Input(height=cut.size, width=cut.size, resize=cut.resize, context=cut.context),
        backbone=backbone_hash(model, projection, preprocessing),
        embedding_dim=memory.shape[1],
        temperature=round(temperature, 4),
        thresholds={
            "tau": tau,
            "lambda": lam,
            "sharpness": fitted.sharpness,
            "max_distance": round(fitted.max_distance, 4),
            **tuned.thresholds(),
        },
        max_batch=8,
        files={},
        data=damage_sources(args.data, labels, all_licences=args.all_licences),
    )
    graph, golden = graph_and_golden(Served(model, projection), cut.size)
    place = args.out / "cropresmoe" / args.version
    pack = write_pack(place, manifest, {"fp32": graph, "golden": golden})
    rows = memory_file(memory, train.labels, train.size, train.image)
    remembered = manifest.model_copy(update={"name": "memory", "task": "memory", "notes": MEMORY_NOTES})
    memory_pack = write_pack(args.out / "memory" / args.version, remembered, {"memory": rows})
    measured = metrics(pack, memory_pack, args.data, args.split, protocol=protocol).metrics
    files = {name: pack.read(name) for name in pack.manifest.files}
    write_pack(place, manifest.model_copy(update={"metrics": measured}), files)
    load_pack(place)
    return "\n".join(markdown_table(measured))


NOTES = (
    "Demonstration weights, trained on {photos}. Train on your own claims before you rely on them. Classes that no "
    "photo taught are masked and never answered."
)
MEMORY_NOTES = "Embeddings of the training crops of the classifier pack of the same version; no photos."


if __name__ == "__main__":
    main()
