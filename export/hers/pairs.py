"""Stage 2, pairs: `python -m export.hers.pairs --base sdxl --prompts prompts.jsonl --out pairs`; resumes.

Renders every prompt once (paper: SDXL, 50 steps, guidance 7.5, fp16), with the seed `--seed` + the prompt's number, and
lets a judge look at each picture. On several GPUs: `accelerate launch -m export.hers.pairs ...`. The pictures are
training data: they carry their origin in their metadata and belong into no claim.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from export.hers import prompts as bank
from export.hers.grammar import Prompt
from export.hers.judge import Judge, Verdict, open_judge
from export.hers.pipeline import open_base
from services.common.vision.synthetic import png


def render(
    pipe: Any, texts: Sequence[str], seeds: Sequence[int], *, steps: int = 50, guidance: float = 7.5, size: int = 1024
) -> list[NDArray[np.uint8]]:
    """One picture [size, size, 3] for each text; the same seed gives the same noise on every device."""
    noise = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    made = pipe(
        list(texts), num_inference_steps=steps, guidance_scale=guidance, height=size, width=size, generator=noise
    ).images
    return [np.asarray(image.convert("RGB"), np.uint8) for image in made]


def make_pairs(
    pipe: Any, wanted: Sequence[Prompt], folder: Path, judge: Judge | None, *, seed: int = 0, batch: int = 1, **how: Any
) -> int:
    """Render what is missing in `folder`; returns how many pairs this process has made. `how`: see `render`."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    state = PartialState()
    done = {row["number"] for row in _rows(folder)}
    missing = [n for n in range(len(wanted)) if n not in done][state.process_index :: state.num_processes]
    with (folder / f"pairs-{state.process_index}.jsonl").open("a", encoding="utf-8") as file:
        for start in tqdm(range(0, len(missing), batch), desc="pairs", unit="batch", disable=not state.is_main_process):
            numbers = missing[start : start + batch]
            photos = render(pipe, [wanted[n].text for n in numbers], [seed + n for n in numbers], **how)
            for number, photo in zip(numbers, photos, strict=True):
                name = f"images/{number:06d}.png"
                (folder / name).write_bytes(png(Image.fromarray(photo), prompt=wanted[number].text, seed=seed + number))
                verdict = judge(photo, wanted[number]) if judge else None
                row = {"number": number, "image": name, **wanted[number].row()}
                file.write(json.dumps(row | {"verdict": asdict(verdict) if verdict else None}) + "\n")
                file.flush()  # the picture before its row: a row never names a picture that is not there
    return len(missing)


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("pairs-*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:  # cut off by a kill; the pair is made again
                continue


def read_pairs(folder: Path, *, least: float = 0.0) -> list[tuple[Path, Prompt, Verdict | None]]:
    """The pairs of a folder by number; those whose verdict is below `least` are left out."""
    pairs = {}
    for row in _rows(folder):
        verdict = Verdict(**row["verdict"]) if row["verdict"] else None
        if least <= 0 or (verdict is not None and verdict.target >= least):
            words = {key: row[key] for key in ("text", "domain", "damage", "part", "side", "source")}
            pairs[row["number"]] = (folder / row["image"], Prompt(**words), verdict)
    return [pairs[number] for number in sorted(pairs)]


def summary(folder: Path) -> list[str]:
    """Per domain: pairs, mean probability of the asked damage on the asked part, mean off-target share."""
    judged: dict[str, list[Verdict]] = {}
    for _, prompt, verdict in read_pairs(folder):
        if verdict is not None and prompt.damage is not None:
            judged.setdefault(prompt.domain, []).append(verdict)
    lines = ["| domain | pairs | asked damage on asked part | off target |", "|---|---|---|---|"]
    for domain, found in judged.items():
        target, off = (np.mean([getattr(v, name) for v in found]) for name in ("target", "off_target"))
        lines.append(f"| {domain} | {len(found)} | {target:.3f} | {off:.3f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="Render prompts into image-text pairs; the same command resumes.")
    parser.add_argument("--base", required=True, help="diffusers folder or hub id (SDXL or SD 1.5)")
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--judge", default="packs", help="packs, none, or module:function")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=("fp16", "bf16", "fp32"), default="fp16")
    args = parser.parse_args()
    pipe = open_base(args.base, precision=args.precision, device=PartialState().device)
    judge = None if args.judge == "none" else open_judge(args.judge)
    how = {"steps": args.steps, "guidance": args.guidance, "size": args.size}
    make_pairs(pipe, bank.read(args.prompts), args.out, judge, seed=args.seed, batch=args.batch, **how)
    print("\n".join(summary(args.out)))


if __name__ == "__main__":
    main()
