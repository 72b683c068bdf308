"""From a training run to a segment pack: `python -m export.albert.pack --run runs/albert --data ../data --out models`.

Calibrates scores and chooses the listing threshold on the validation split, exports ONNX with golden outputs, measures
the pack itself on the test split and states everything in the manifest.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save
from torch import nn
from tqdm import tqdm

from export.albert.calibrate import best_threshold, fake_threshold, fit_scores
from export.albert.dataset import supported_names, truths
from export.albert.evaluate import Scores, Truth, evaluate, real_fake_scores
from export.albert.fakes import fake_metrics
from export.albert.model import OUTPUTS, Albert
from export.albert.ranking import fit_ranking
from export.albert.report import markdown, measure, predictor
from export.albert.runs import load_run
from export.convert.to_onnx import run, to_onnx
from export.evaluation import Matches, average_precision
from export.labels import Labels, load_labels
from export.sources import damage_sources, part_sources, taught_by
from services.common.serving.modelpack import Input, Manifest, Pack, load_pack, write_pack

NOTES = (
    "Demonstration weights. Damages were taught by {photos}; part masks by a set that states no licence and asks for "
    "citation: replace them before commercial use. `missingpart` stands for broken, torn and missing parts, which the "
    "labels do not tell apart. Fakes were learned from rendered ones alone. Other names are masked."
)

_MAPS, _THIN = ("mask_logits", "part_logits", "damaged_logits"), 4  # golden maps keep every fourth row and column

_REACHES = (-1.5, -1.0, -0.75, -0.5, -0.25, 0.0)  # mask thresholds that are tried, as logits


def graph_and_golden(model: Albert, seed: int = 0) -> tuple[bytes, bytes]:
    """The ONNX graph, and one smooth random photo with its CPU outputs."""
    rng = np.random.default_rng(seed)
    size = model.preset.size
    coarse = torch.from_numpy(rng.integers(0, 256, (8, 3, 12, 12)).astype(np.float32))
    smooth = nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    photos = smooth.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    graph = to_onnx(model, photos, "photo", OUTPUTS, tolerance=5e-3)
    outputs = run(graph, {"photo": photos[:1].numpy()})
    golden = {n: o[..., ::_THIN, ::_THIN] if n in _MAPS else o for n, o in zip(OUTPUTS, outputs, strict=True)}
    return graph, save({n: np.ascontiguousarray(o) for n, o in {"photo": photos[:1].numpy(), **golden}.items()})


def base_manifest(
    model: Albert, labels: Labels, version: str, data: Path, *, name: str, all_licences: bool, fakes: bool
) -> Manifest:
    digest = hashlib.sha256(b"".join(v.numpy().tobytes() for v in model.stem.state_dict().values()))
    side = model.preset.size
    return Manifest(
        name=name,
        version=version,
        task="segment",
        created=date.today().isoformat(),
        licence="Apache-2.0 for the code and the initial weights; for the photos' rights see data",
        notes=NOTES.format(photos=taught_by(all_licences=all_licences)),
        vocabulary=labels.vocabulary,
        names_hash="",
        supported=supported_names(labels, fakes=fakes),
        input=Input(height=side, width=side, resize="stretch"),
        backbone=digest.hexdigest(),
        max_batch=4,
        files={},
        tolerance=0.02,  # logits of up to 40; threads and CPUs add in another order
        data=[*damage_sources(data, labels, all_licences=all_licences, outlined=True), *part_sources(data, labels)],
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


def best_decoding(pack: Pack, photos: list[Truth]) -> dict[str, float]:
    """The mask threshold of highest class-agnostic AP50 on validation photos, and that of each damage.

    Labels are drawn around damages, some more widely than others: a mask may have to reach beyond where it is sure.
    """
    tried = {
        reach: _scores(pack, photos, {"mask": reach}) for reach in tqdm(_REACHES, desc="mask threshold", unit="try")
    }

    def best(found: Mapping[float, list[Matches]], *, usual: float = 0.0) -> float:
        return max(found, key=lambda reach: (average_precision(found[reach]), -abs(reach - usual)))

    chosen = {"mask": best({reach: scores.agnostic for reach, scores in tried.items()})}
    for name in pack.manifest.supported["damages"]:
        found = {reach: scores.damages[name] for reach, scores in tried.items()}
        if sum(photo.truths for photo in found[0.0]):
            chosen[f"mask_{name}"] = best(found, usual=chosen["mask"])
    return chosen


def _scores(pack: Pack, photos: list[Truth], decoding: dict[str, float]) -> Scores:
    manifest = pack.manifest
    return evaluate(
        predictor(pack),
        photos,
        size=manifest.input.height,
        vocabulary=manifest.vocabulary,
        supported=manifest.supported,
        thresholds=decoding,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Turn a training run into a segment pack.")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("models"))
    parser.add_argument("--name", default="albert", help="of the pack and its folder: slick for a student")
    parser.add_argument("--version", default="1")
    parser.add_argument(
        "--size", type=int, help="serve photos at this side instead of the training size (multiple of 32)"
    )
    parser.add_argument("--split", default="test", help="the split whose numbers the manifest states")
    parser.add_argument("--all-licences", action="store_true", help="the run was trained with --all-licences")
    args = parser.parse_args()
    labels = load_labels()
    model, config = load_run(args.run, args.size)
    manifest = base_manifest(
        model, labels, args.version, args.data, name=args.name, all_licences=args.all_licences, fakes=config.fakes > 0
    )
    graph, golden = graph_and_golden(model)
    place = args.out / args.name / args.version
    pack = write_pack(place, manifest, {"fp32": graph, "golden": golden})
    photos = [truth for truth, _ in truths(args.data, "val", labels)]
    decoding = best_decoding(pack, [photo for photo in photos if photo.damages])
    shown = tqdm(photos, desc="ranking", unit="photo", mininterval=5)
    decoding = decoding | fit_ranking(predictor(pack), shown, pack.manifest, decoding)
    validation = _scores(pack, photos, decoding)
    fake = fake_threshold(real_fake_scores(predictor(pack), photos, pack.manifest, decoding)) if config.fakes else 1.0
    chosen = decoding | thresholds(validation, fit_scores(validation.agnostic)) | {"fake": fake}
    pack = write_pack(place, manifest.model_copy(update={"thresholds": chosen}), {"fp32": graph, "golden": golden})
    measured = measure(pack, args.data, args.split).metrics
    measured += fake_metrics(pack, args.data, args.split) if config.fakes else []
    complete = pack.manifest.model_copy(update={"metrics": measured})
    print(markdown(write_pack(place, complete, {"fp32": graph, "golden": golden}), args.split))
    load_pack(place)


if __name__ == "__main__":
    main()
