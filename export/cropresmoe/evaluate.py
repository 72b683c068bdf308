"""Measure a classifier pack: `python -m export.cropresmoe.evaluate --data ../data [--pack ...] [--memory ...]`.

Runs the pack's own ONNX file on the crops that serving would cut, and prints one table: accuracy with intervals by
photo, by size, by source, on jittered boxes and on photos re-stretched to 4:3; calibration; the fallback on and off.
The page with plots is `export.cropresmoe.report`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors

from export.convert.to_onnx import session
from export.cropresmoe.calibrate import K, neighbours
from export.cropresmoe.data import Crops
from export.cropresmoe.dataset import EVERY_BOX, SIZES, Cut, Protocol, load_crops
from export.data.coco import Photo, clean_licence
from export.labels import Labels, load_labels
from export.statistics import (
    average_precisions,
    bootstrap_mean,
    bootstrap_of,
    brier,
    class_rows,
    ece,
    ece_band,
    nll,
)
from export.training import commands_error
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
    pack: Pack,
    data: Path,
    split: str,
    *,
    jitter: int | None = None,
    aspect: float | None = None,
    variant: str = "fp32",
    protocol: Protocol = EVERY_BOX,
) -> Answers:
    """What the pack's own graph says about the crops that serving would cut. Raises ValueError for a foreign pack."""
    labels = load_labels()
    must_know(pack, labels)
    cut = pack_cut(pack.manifest)
    crops, photos = load_crops(data, split, labels, cut, protocol=protocol, wide=False, jitter=jitter, aspect=aspect)
    return answer(pack, crops, photos, variant)


def answer(pack: Pack, crops: Crops, photos: list[Photo], variant: str = "fp32") -> Answers:
    logits, gates, embedding = run_pack(pack.read(variant), crops.served)
    p = calibrated(logits, pack.manifest.temperature, supported_mask(pack.manifest))
    return Answers(p, gates, embedding, crops.labels, crops.image, crops.size, photos)


def pack_cut(manifest: Manifest) -> Cut:
    return Cut(manifest.input.height, manifest.input.context, manifest.input.resize)


def must_know(pack: Pack, labels: Labels) -> None:
    """The pack's classes are those of labels.yaml, in its order. Raises ValueError naming the first that is not."""
    theirs, ours = pack.manifest.vocabulary.classes, labels.vocabulary.classes
    if theirs == ours:
        return
    at = next((i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), min(len(theirs), len(ours)))
    was, now = (repr(x[at]) if at < len(x) else "nothing" for x in (theirs, ours))
    raise ValueError(
        f"{pack.folder}: its label map is not that of labels.yaml: class {at} is {was} in the pack and {now} there"
    )


def read_memory(pack: Pack, manifest: Manifest) -> Memory:
    """Raises ValueError where the memory was made by another backbone than the pack of `manifest`."""
    if pack.manifest.backbone != manifest.backbone:
        raise ValueError(
            f"{pack.folder}: made with another backbone ({pack.manifest.backbone[:12]}...) than "
            f"{manifest.name} {manifest.version} ({manifest.backbone[:12]}...): distances would mean nothing"
        )
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


@dataclass(frozen=True)
class Measured:
    """What `metrics` found, and the answers behind it."""

    metrics: list[Metric]
    answers: Answers
    jittered: Answers  # on jittered boxes
    final: Floats  # [n, C], with the fallback
    outcome: list[str]  # accept, blended or review


def metrics(
    pack: Pack, memory: Pack, data: Path, split: str, *, protocol: Protocol = EVERY_BOX, variant: str = "fp32"
) -> Measured:
    """All measured numbers of a pack on a labelled split."""
    manifest = pack.manifest
    command = f"python -m export.cropresmoe.evaluate --data DATA --split {split}"
    if protocol.one_a_photo:
        command += " --protocol paper"
    found: list[Metric] = []

    def add(name: str, values: NDArray[np.bool_] | Floats, group: Ints) -> None:
        if len(values):
            interval = bootstrap_mean(values, group)
            found.append(_metric(name, float(np.mean(values)), len(values), interval, split=split, command=command))

    remembered = read_memory(memory, manifest)
    a = answers(pack, data, split, variant=variant, protocol=protocol)
    add("accuracy", a.hits, a.image)
    outlined = np.array([not any(x.weak == "image_level" for x in p.annotations) for p in a.photos])
    add("accuracy, boxes drawn around damages only", a.hits[outlined], a.image[outlined])
    sources = np.array(["same source as training" if clean_licence(p) else f"other: {p.source}" for p in a.photos])
    for source in sorted(set(sources.tolist())):
        add(f"accuracy, {source}", a.hits[sources == source], a.image[sources == source])
    for i, size in enumerate(SIZES):
        add(f"accuracy, {size}", a.hits[a.size == i], a.image[a.size == i])
    j = answers(pack, data, split, jitter=0, variant=variant, protocol=protocol)
    add("accuracy, jittered boxes", j.hits, j.image)
    blended, _ = with_fallback(j, remembered, manifest)
    add("accuracy with fallback, jittered boxes", blended.argmax(1) == j.labels, j.image)
    s = answers(pack, data, split, aspect=4 / 3, variant=variant, protocol=protocol)
    add("accuracy, square photos re-stretched to 4:3", s.hits, s.image)
    for name, measure in _WHOLES.items():
        value = measure(a.probabilities, a.labels)
        interval = bootstrap_of(lambda rows, f=measure: f(a.probabilities[rows], a.labels[rows]), a.image)  # type: ignore[misc]
        found.append(_metric(name, value, len(a.labels), interval, split=split, command=command))
    for i, size in enumerate(SIZES):
        if (a.size == i).any():
            rows = a.size == i
            value = average_precisions(a.probabilities[rows], a.labels[rows]).macro
            found.append(_metric(f"macro AP, {size}", value, int(rows.sum()), None, split=split, command=command))
    top = a.probabilities.max(1)
    bound = ece_band(top)
    found.append(_metric("ECE, 95 % bound if calibrated", bound, len(top), None, split=split, command=command))
    final, outcome = with_fallback(a, remembered, manifest)
    right = final.argmax(1) == a.labels
    add("accuracy with fallback", right, a.image)
    unsure = top <= manifest.thresholds["tau"]
    add("uncertain slice: accuracy of the model", a.hits[unsure], a.image[unsure])
    add("uncertain slice: accuracy with fallback", right[unsure], a.image[unsure])
    add("uncertain slice: change by the fallback", right[unsure].astype(float) - a.hits[unsure], a.image[unsure])
    accepted = np.array([o != "review" for o in outcome])
    add("share decided without review", accepted, a.image)
    add("accuracy where decided without review", right[accepted], a.image[accepted])
    return Measured(found, a, j, final, outcome)


def _top_ece(p: Floats, labels: Ints) -> float:
    return ece(p.max(1), p.argmax(1) == labels)


def _mean_of(field: str) -> Callable[[Floats, Ints], float]:
    """The mean over classes of a column of `class_rows`."""
    return lambda p, y: float(np.mean([getattr(r, field) for r in class_rows(p, y, [""] * p.shape[1])]))


_WHOLES: dict[str, Callable[[Floats, Ints], float]] = {
    "macro precision": _mean_of("precision"),
    "macro recall": _mean_of("recall"),
    "macro F1": _mean_of("f1"),
    "macro AP": lambda p, y: average_precisions(p, y).macro,
    "weighted AP": lambda p, y: average_precisions(p, y).weighted,
    "micro AP": lambda p, y: average_precisions(p, y).micro,
    "NLL": nll,
    "Brier": brier,
    "ECE": _top_ece,
}


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


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a classifier pack on a labelled split.")
    parser.add_argument("--pack", type=Path, default=Path("models/cropresmoe"))
    parser.add_argument("--memory", type=Path, default=Path("models/memory"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--protocol", choices=("boxes", "paper"), default="boxes", help="paper: one label a photo")
    parser.add_argument("--source", default=EVERY_BOX.source, help="label names, as labels.yaml translates them")
    args = parser.parse_args()
    protocol = Protocol(args.source, one_a_photo=args.protocol == "paper")
    with commands_error():
        found = metrics(load_pack(args.pack), load_pack(args.memory), args.data, args.split, protocol=protocol)
        print("\n".join(markdown_table(found.metrics)))


if __name__ == "__main__":
    main()
