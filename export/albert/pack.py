"""From a training run to a segment pack: `python -m export.albert.pack --run runs/albert --data ../data --out models`.

Calibrates scores and chooses the listing threshold on the validation split, exports ONNX with golden outputs, measures
the pack itself on the test split and states everything in the manifest.
"""

from __future__ import annotations

import argparse
import hashlib
from datetime import date
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save
from torch import Tensor, nn

from export.albert.calibrate import best_threshold, fit_scores
from export.albert.dataset import supported_names, truths
from export.albert.evaluate import Scores, evaluate
from export.albert.model import OUTPUTS, Albert
from export.albert.report import markdown, measure, predictor
from export.albert.train import Config
from export.config import build
from export.convert.to_onnx import run, to_onnx
from export.labels import Labels, load_labels
from export.sources import damage_sources, part_sources
from services.common.serving.modelpack import Input, Manifest, load_pack, write_pack

NOTES = (
    "Demonstration weights. Damages were taught by CC BY 4.0 claim photos only (as their uploader declares); part "
    "masks by a set that states no licence and asks for citation: replace them before commercial use. `missingpart` "
    "stands for broken, torn and missing parts, which the labels do not tell apart. Other names are masked."
)


# Decoding of highest class-agnostic AP50 on the validation photos, of about twenty tried (0.121 at the defaults, 0.145
# here): labels are drawn around damages, so a mask reaches a little further than where it is sure.
DECODING = {"mask": -1.0, "nms_iou": 0.3}


def load_run(folder: Path, size: int | None = None) -> tuple[Albert, Config]:
    """The averaged model of a run, for photos of `size` (positions are interpolated bicubically)."""
    state = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    config = build(Config, state["config"], str(folder / "checkpoint.pt"))
    weights: dict[str, Tensor] = state["averaged"]
    preset = config.preset
    if size and size != preset.size:
        side = preset.size // 16
        grid = weights["position"].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, (size // 16, size // 16), mode="bicubic", align_corners=False)
        weights["position"] = grid.permute(0, 2, 3, 1).reshape(1, -1, preset.width)
        preset = build(type(preset), {**vars(preset), "size": size}, "--size")
    model = Albert(preset)
    model.load_state_dict(weights)
    return model.eval(), config


def graph_and_golden(model: Albert, seed: int = 0) -> tuple[bytes, bytes]:
    """The ONNX graph, and one smooth random photo with its CPU outputs."""
    rng = np.random.default_rng(seed)
    size = model.preset.size
    coarse = torch.from_numpy(rng.integers(0, 256, (8, 3, 12, 12)).astype(np.float32))
    smooth = nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    photos = smooth.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    graph = to_onnx(model, photos, "photo", OUTPUTS, tolerance=5e-3)
    outputs = run(graph, {"photo": photos[:1].numpy()})
    return graph, save({"photo": photos[:1].numpy(), **dict(zip(OUTPUTS, outputs, strict=True))})


def base_manifest(model: Albert, labels: Labels, version: str, data: Path, *, all_licences: bool) -> Manifest:
    digest = hashlib.sha256(b"".join(v.numpy().tobytes() for v in model.stem.state_dict().values()))
    side = model.preset.size
    return Manifest(
        name="albert",
        version=version,
        task="segment",
        created=date.today().isoformat(),
        licence="Apache-2.0 for the code and the initial weights; for the photos' rights see data",
        notes=NOTES,
        vocabulary=labels.vocabulary,
        names_hash="",
        supported=supported_names(labels),
        input=Input(height=side, width=side, resize="stretch"),
        backbone=digest.hexdigest(),
        max_batch=4,
        files={},
        tolerance=0.02,  # logits of up to 40; threads and CPUs add in another order
        data=[*damage_sources(data, labels, all_licences=all_licences), *part_sources(data, labels)],
    )


def thresholds(scores: Scores, agnostic_scale: tuple[float, float]) -> dict[str, float]:
    """Listing threshold of highest F1 on validation photos, on the calibrated scale."""
    best, precision, recall, f1 = best_threshold(scores.agnostic)
    scale, shift = agnostic_scale
    logit = np.log(best / (1 - best)) * scale + shift
    print(f"listing threshold: precision {precision:.2f}, recall {recall:.2f}, F1 {f1:.2f} on validation photos")
    return {
        "damage": round(float(1 / (1 + np.exp(-logit))), 4),
        "score_scale": round(scale, 4),
        "score_shift": round(shift, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Turn a training run into a segment pack.")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("models"))
    parser.add_argument("--version", default="1")
    parser.add_argument(
        "--size", type=int, help="serve photos at this side instead of the training size (multiple of 32)"
    )
    parser.add_argument("--split", default="test", help="the split whose numbers the manifest states")
    parser.add_argument("--all-licences", action="store_true", help="the run was trained with --all-licences")
    args = parser.parse_args()
    labels = load_labels()
    model, _ = load_run(args.run, args.size)
    manifest = base_manifest(model, labels, args.version, args.data, all_licences=args.all_licences)
    graph, golden = graph_and_golden(model)
    place = args.out / "albert" / args.version
    pack = write_pack(place, manifest, {"fp32": graph, "golden": golden})
    validation = evaluate(
        predictor(pack),
        (truth for truth, _ in truths(args.data, "val", labels)),
        size=manifest.input.height,
        vocabulary=labels.vocabulary,
        supported=manifest.supported,
        thresholds=DECODING,
    )
    chosen = DECODING | thresholds(validation, fit_scores(validation.agnostic))
    pack = write_pack(place, manifest.model_copy(update={"thresholds": chosen}), {"fp32": graph, "golden": golden})
    measured = measure(pack, args.data, args.split)
    complete = pack.manifest.model_copy(update={"metrics": measured})
    print(markdown(write_pack(place, complete, {"fp32": graph, "golden": golden}), args.split))
    load_pack(place)


if __name__ == "__main__":
    main()
