"""Measure a classifier pack: `python -m export.cropresmoe.evaluate --data ../data [--pack ...] [--memory ...]`.

Runs the pack's own ONNX file on the crops that serving would cut, and prints (and writes with --out) one page: accuracy
with intervals by photo, by size, by source, on jittered boxes and on photos re-stretched to 4:3; per class;
calibration; the fallback on and off.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors

from export.convert.to_onnx import session
from export.cropresmoe.calibrate import K, neighbours
from export.cropresmoe.dataset import SIZES, Cut, load_crops
from export.data.coco import Photo, clean_licence
from export.labels import load_labels
from export.statistics import bootstrap_mean, class_rows, confusion, ece, ece_band, nll
from services.common.serving.modelpack import Manifest, Metric, Pack, load_pack
from services.common.vision.vote import calibrated, decide

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BATCH = 8


@dataclass(frozen=True)
class Answers:
    """What a pack says about n crops, beside the truth."""

    probabilities: Floats  # [n, C], calibrated
    gates: NDArray[np.float32]  # [n, 5]
    embedding: NDArray[np.float32]  # [n, k]
    labels: Ints
    image: Ints
    size: Ints
    photos: list[Photo]

    @property
    def hits(self) -> NDArray[np.bool_]:
        return np.asarray(self.probabilities.argmax(1) == self.labels)


@dataclass(frozen=True)
class Memory:
    embedding: NDArray[np.float32]
    label: Ints


def run_pack(graph: bytes, crops: NDArray[np.uint8], threads: int = 0) -> list[NDArray[np.float32]]:
    """logits, gates, embedding of uint8 crops [n, S, S, 3] on the plain CPU provider."""
    runner = session(graph, threads)
    parts = [runner.run(None, {"crops": crops[i : i + BATCH]}) for i in range(0, len(crops), BATCH)]
    return [np.concatenate([p[i] for p in parts]) for i in range(3)]


def supported_mask(manifest: Manifest) -> NDArray[np.bool_]:
    return np.isin(manifest.vocabulary.classes, manifest.supported["classes"])


def answers(
    pack: Pack, data: Path, split: str, *, jitter: int | None = None, aspect: float | None = None, variant: str = "fp32"
) -> Answers:
    manifest = pack.manifest
    cut = Cut(manifest.input.height, manifest.input.context, manifest.input.resize)
    crops, photos = load_crops(data, split, load_labels(), cut, wide=False, jitter=jitter, aspect=aspect)
    logits, gates, embedding = run_pack(pack.read(variant), crops.served)
    p = calibrated(logits, manifest.temperature, supported_mask(manifest))
    return Answers(p, gates, embedding, crops.labels, crops.image, crops.size, photos)


def read_memory(pack: Pack) -> Memory:
    tensors = load_tensors(pack.read("memory"))
    return Memory(tensors["embedding"].astype(np.float32), tensors["label"].astype(np.int64))


def with_fallback(a: Answers, memory: Memory, manifest: Manifest) -> tuple[Floats, list[str]]:
    """Final probabilities and outcome per crop, as the claim pipeline decides them."""
    distance, index = neighbours(a.embedding, memory.embedding, k=K)
    t = manifest.thresholds
    decisions = [
        decide(
            p,
            d,
            memory.label[i],
            tau=t["tau"],
            lam=t["lambda"],
            sharpness=t["sharpness"],
            max_distance=t["max_distance"],
        )
        for p, d, i in zip(a.probabilities, distance, index, strict=True)
    ]
    return np.stack([d.probabilities for d in decisions]), [d.outcome for d in decisions]


def metrics(pack: Pack, memory: Pack, data: Path, split: str) -> tuple[list[Metric], str]:
    """All measured numbers, and the Markdown page that shows them."""
    manifest = pack.manifest
    command = f"python -m export.cropresmoe.evaluate --data DATA --split {split}"
    found: list[Metric] = []

    def add(name: str, values: NDArray[np.bool_] | Floats, group: Ints) -> None:
        if len(values):
            low, high = bootstrap_mean(values, group)
            found.append(_metric(name, float(np.mean(values)), len(values), (low, high), split=split, command=command))

    a = answers(pack, data, split)
    add("accuracy", a.hits, a.image)
    outlined = np.array([not any(x.weak == "image_level" for x in p.annotations) for p in a.photos])
    add("accuracy, boxes drawn around damages only", a.hits[outlined], a.image[outlined])
    sources = np.array(["same source as training" if clean_licence(p) else f"other: {p.source}" for p in a.photos])
    for source in sorted(set(sources.tolist())):
        add(f"accuracy, {source}", a.hits[sources == source], a.image[sources == source])
    for i, size in enumerate(SIZES):
        add(f"accuracy, {size}", a.hits[a.size == i], a.image[a.size == i])
    j = answers(pack, data, split, jitter=0)
    add("accuracy, jittered boxes", j.hits, j.image)
    s = answers(pack, data, split, aspect=4 / 3)
    add("accuracy, square photos re-stretched to 4:3", s.hits, s.image)
    rows = class_rows(a.probabilities, a.labels, list(manifest.vocabulary.classes))
    top = a.probabilities.max(1)
    plain = {
        "macro F1": float(np.mean([r.f1 for r in rows])),
        "macro AP": float(np.mean([r.average_precision for r in rows])),
        "NLL": nll(a.probabilities, a.labels),
        "ECE": ece(top, a.hits),
        "ECE, 95 % bound if calibrated": ece_band(top),
    }
    found += [_metric(name, value, len(a.labels), None, split=split, command=command) for name, value in plain.items()]
    final, outcome = with_fallback(a, read_memory(memory), manifest)
    right = final.argmax(1) == a.labels
    add("accuracy with fallback", right, a.image)
    unsure = top <= manifest.thresholds["tau"]
    add("uncertain slice: accuracy of the model", a.hits[unsure], a.image[unsure])
    add("uncertain slice: accuracy with fallback", right[unsure], a.image[unsure])
    add("uncertain slice: change by the fallback", right[unsure].astype(float) - a.hits[unsure], a.image[unsure])
    accepted = np.array([o != "review" for o in outcome])
    add("share decided without review", accepted, a.image)
    add("accuracy where decided without review", right[accepted], a.image[accepted])
    return found, _page(pack, found, a, split)


def _metric(name: str, value: float, n: int, ci: tuple[float, float] | None, *, split: str, command: str) -> Metric:
    rounded = None if ci is None else (round(ci[0], 4), round(ci[1], 4))
    return Metric(
        name=name, value=round(value, 4), n=n, ci95=rounded, split=split, command=command, date=date.today().isoformat()
    )


def markdown_table(found: list[Metric]) -> list[str]:
    rows = ["| what | value | 95 % interval | n |", "|---|---|---|---|"]
    for m in found:
        interval = f"{m.ci95[0]:.3f} to {m.ci95[1]:.3f}" if m.ci95 else ""
        rows.append(f"| {m.name} | {m.value:.3f} | {interval} | {m.n} |")
    return rows


def _page(pack: Pack, found: list[Metric], a: Answers, split: str) -> str:
    manifest = pack.manifest
    names = list(manifest.vocabulary.classes)
    lines = [f"# {manifest.name} {manifest.version} on `{split}`", "", *markdown_table(found), ""]
    lines += ["| class | n | precision | recall | F1 | AP |", "|---|---|---|---|---|---|"]
    for r in class_rows(a.probabilities, a.labels, names):
        lines.append(
            f"| {r.name} | {r.n} | {r.precision:.3f} | {r.recall:.3f} | {r.f1:.3f} | {r.average_precision:.3f} |"
        )
    seen = [c for c in range(len(names)) if (a.labels == c).any()]
    counts = confusion(a.probabilities, a.labels, len(names))
    lines += [
        "",
        "Rows are the truth, columns the answer:",
        "",
        "| | " + " | ".join(names[c] for c in seen) + " |",
        "|---" * (len(seen) + 1) + "|",
    ]
    lines += [f"| {names[r]} | " + " | ".join(str(counts[r, c]) for c in seen) + " |" for r in seen]
    lines += [
        "",
        "Mean gate of each expert by true class:",
        "",
        "| | " + " | ".join(f"E{i + 1}" for i in range(a.gates.shape[1])) + " |",
        "|---" * (a.gates.shape[1] + 1) + "|",
    ]
    lines += [f"| {names[c]} | " + " | ".join(f"{g:.2f}" for g in a.gates[a.labels == c].mean(0)) + " |" for c in seen]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a classifier pack on a labelled split.")
    parser.add_argument("--pack", type=Path, default=Path("models/cropresmoe"))
    parser.add_argument("--memory", type=Path, default=Path("models/memory"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path, help="write the page here as well")
    args = parser.parse_args()
    _, page = metrics(load_pack(args.pack), load_pack(args.memory), args.data, args.split)
    print(page)
    if args.out:
        args.out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
