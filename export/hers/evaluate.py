"""Stage 5, evaluate: `python -m export.hers.evaluate --base sdxl --pairs pairs --experts experts --out report`.

Merge algebra, denoising retention, the trust metric against real photos, a table of judges, and a blind A/B page of the
variants' pictures at the same prompts and seeds. Downstream utility: `export.hers.utility`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from export.convert.to_onnx import session
from export.hers import blind, lora
from export.hers.denoise import Encoded, encode
from export.hers.fuse import default_weights, fuse
from export.hers.grammar import Prompt
from export.hers.judge import open_judge
from export.hers.merge import METHODS
from export.hers.pairs import read_pairs, render
from export.hers.pipeline import open_base
from export.hers.retention import table
from export.hers.trust import Trust, trust
from services.common.serving.modelpack import load_pack
from services.common.vision.crops import cut_crops
from services.common.vision.synthetic import png

Photos = Sequence[NDArray[np.uint8]]


def merges(experts: Mapping[str, Path], base: Path, out: Path, purpose: str) -> dict[str, dict[str, float]]:
    """Every method's merge in `out/<method>`, and how far it is from the mean of updates."""
    weights = default_weights(list(experts), purpose)
    return {
        method: asdict(fuse(list(experts.values()), out / method, base=base, method=method, weights=weights))
        for method in METHODS
    }


def pictures(
    pipe: Any, variants: Mapping[str, Path | None], prompts: Sequence[Prompt], **how: Any
) -> dict[str, list[NDArray[np.uint8]]]:
    """Each variant's pictures of the same prompts at the same seeds; None is the base itself."""
    made = {}
    for name, folder in variants.items():
        if folder is not None:
            pipe.load_lora_weights(str(folder), adapter_name=name, local_files_only=True)
        asked = tqdm(enumerate(prompts), total=len(prompts), desc=f"pictures, {name}", unit="picture")
        made[name] = [render(pipe, [prompt.text], [n], **how)[0] for n, prompt in asked]
        pipe.unload_lora_weights()
    return made


def embeddings(photos: Photos, pack: Path = Path("models/cropresmoe")) -> NDArray[np.float32]:
    """Our classifier's embedding of whole pictures, float32 [n, d]."""
    opened = load_pack(pack)
    cls, graph = opened.manifest.input, session(opened.read("fp32"))
    whole = [[0.0, 0.0, 1.0, 1.0]]
    rows = [
        graph.run(["embedding"], {"crops": cut_crops(photo, whole, size=cls.height, resize=cls.resize)})[0]
        for photo in photos
    ]
    return np.asarray(np.concatenate(rows), np.float32)


def judged(made: Mapping[str, Photos], prompts: Sequence[Prompt], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """variant -> judge -> mean target. `names`: see `open_judge`; CLIPScore, PickScore, HPS, ImageReward, DSG and TIFA
    fit in as `module:function` where their models are at hand."""
    judges: dict[str, Callable[..., Any]] = {name: open_judge(name) for name in names}
    return {
        variant: {
            name: float(np.mean([judge(photo, p).target for photo, p in zip(photos, prompts, strict=True)]))
            for name, judge in judges.items()
        }
        for variant, photos in made.items()
    }


def report(
    algebra: Mapping[str, Mapping[str, float]],
    retention: Mapping[str, Mapping[str, float]],
    scores: Mapping[str, Mapping[str, float]],
    distances: Trust | None,
) -> str:
    """One Markdown page."""
    lines = ["# HERS", "", "## Merge algebra, against the mean of updates", ""]
    lines += _grid(algebra, "merge")
    lines += ["", "## Denoising loss and retention, fixed noise, ten times", "", *_grid(retention, "domain")]
    lines += ["", "## Judges, mean over the same prompts and seeds", "", *_grid(scores, "variant")]
    if distances is not None:
        sizes = f"{distances.real} real and {distances.generated} generated"
        lines += ["", f"## Distance from real photos (A.20), {sizes}", ""]
        for name in ("kid", "fid", "kl"):
            d = getattr(distances, name)
            lines.append(f"- {name}: {d.value:.4g} ({d.low:.4g} to {d.high:.4g})")
        verdict = "**refused**: not to be used for decisions" if distances.refused else "not refused"
        lines.append(f"- KID between halves of the real photos: up to {distances.real_kid:.4g}; {verdict}")
    return "\n".join(lines) + "\n"


def _grid(rows: Mapping[str, Mapping[str, float]], first: str) -> list[str]:
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [f"| {first} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = (f"{row[column]:.4g}" if column in row else "" for column in columns)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def held_out(pipe: Any, folder: Path, size: int, every: int = 10) -> tuple[dict[str, Encoded], list[Prompt]]:
    """The pairs that the experts' training has set aside, encoded per domain, and their prompts."""
    chosen: dict[str, list[tuple[Path, Prompt]]] = {}
    counts: dict[str, int] = {}
    for path, prompt, _ in read_pairs(folder):
        number = counts.setdefault(prompt.domain, 0)
        counts[prompt.domain] += 1
        if number % every == 0:
            chosen.setdefault(prompt.domain, []).append((path, prompt))
    data = {
        domain: encode(pipe, [_pixels(path) for path, _ in pairs], [prompt.text for _, prompt in pairs], size)
        for domain, pairs in chosen.items()
    }
    return data, [prompt for pairs in chosen.values() for _, prompt in pairs]


def _pixels(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB"), np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measure experts and merges; writes report.md, report.json, blind.html."
    )
    parser.add_argument("--base", required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--experts", type=Path, required=True, help="folder with one folder for each expert")
    parser.add_argument("--real", type=Path, help="folder of real photos, for the trust metric")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--judge", nargs="*", default=["packs"])
    parser.add_argument("--purpose", choices=("training", "paper"), default="training")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--prompts", type=int, default=40, help="how many held-out prompts are rendered per variant")
    parser.add_argument("--precision", choices=("fp16", "bf16", "fp32"), default="fp16")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipe = open_base(args.base, precision=args.precision, device=device)
    experts = {path.parent.name: path.parent for path in sorted(args.experts.glob(f"*/{lora.LORA_FILE}"))}
    algebra = merges(experts, Path(args.base), args.out, args.purpose)
    folders: dict[str, Path] = {method: args.out / method for method in METHODS}
    data, prompts = held_out(pipe, args.pairs, args.size)
    retention = table(pipe, data, experts, folders)
    prompts = prompts[: args.prompts]
    made = pictures(pipe, {"base": None, **folders}, prompts, steps=args.steps, size=args.size)
    scores = judged(made, prompts, args.judge)
    distances = None
    if args.real:
        real = [_pixels(path) for path in sorted(args.real.rglob("*")) if path.suffix.lower() in (".jpg", ".png")]
        distances = trust(embeddings(real), embeddings(made["mean"]))
    (args.out / "report.md").write_text(report(algebra, retention, scores, distances), encoding="utf-8")
    numbers = {"algebra": algebra, "retention": retention, "judges": scores}
    numbers["trust"] = asdict(distances) if distances else {}
    (args.out / "report.json").write_text(json.dumps(numbers, indent=1), encoding="utf-8")
    shown = {
        name: [png(Image.fromarray(p), prompt=q.text, seed=n) for n, (p, q) in enumerate(zip(ps, prompts, strict=True))]
        for name, ps in made.items()
    }
    (args.out / "blind.html").write_text(blind.page(shown, [p.text for p in prompts]), encoding="utf-8")
    (args.out / "blind-key.json").write_text(json.dumps(blind.key(list(shown), len(prompts))), encoding="utf-8")
    print((args.out / "report.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
