"""Does the gateway know its own pictures again? `python -m benchmarks.recognition --photos ../data`.

The registry holds marked, rendered toy cars (no diffusion model is at hand, and toy cars resemble one
another far more than photos do). Each comes back as JPEG 70, at half size, cropped by a tenth, as a screenshot,
and with all of the first three. Every real photo asked about must not be recognised.
"""

from __future__ import annotations

import argparse
import io
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from export.data.toycar import render
from services.common.vision.photo import open_photo
from services.gateway.generated.registry import Registry, dump
from services.gateway.records.generations import GenerationStore
from services.generator.marks import marked

Pixels = NDArray[np.uint8]


def jpeg(pixels: Pixels, quality: int = 70) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"), np.uint8)


def half(pixels: Pixels) -> Pixels:
    size = pixels.shape[1] // 2, pixels.shape[0] // 2
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC), np.uint8)


def crop(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Nine tenths of each side, from anywhere."""
    tall, wide = (int(0.9 * side) for side in pixels.shape[:2])
    y, x = rng.integers(0, pixels.shape[0] - tall + 1), rng.integers(0, pixels.shape[1] - wide + 1)
    return pixels[y : y + tall, x : x + wide]


def screenshot(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """On an upright phone: bars above and below, with a clock and icons in them."""
    height, width = pixels.shape[:2]
    screen = np.full((int(width * 2.1), width, 3), rng.choice([0, 18, 255]), np.uint8)
    top = int(rng.uniform(0.3, 0.7) * (len(screen) - height))
    screen[top : top + height] = pixels
    for row in (0.01, 0.97):
        at = int(row * len(screen))
        screen[at : at + len(screen) // 60, width // 20 : width // 5] = 128
        screen[at : at + len(screen) // 60, -width // 5 : -width // 20] = (90, 140, 200)
    return screen


TRANSFORMS: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "as it is": lambda pixels, _: pixels,
    "JPEG 70": lambda pixels, _: jpeg(pixels),
    "half size": lambda pixels, _: half(pixels),
    "cropped by a tenth": crop,
    "screenshot": screenshot,
    "cropped, halved, JPEG 70": lambda pixels, rng: jpeg(half(crop(pixels, rng))),
}


def filled(count: int, size: int) -> tuple[Registry, list[Pixels]]:
    """A registry of `count` marked toy cars, and their pixels."""
    registry, made = Registry(GenerationStore.__new__(GenerationStore)), []  # the records are not asked here
    for seed in tqdm(range(count), desc="rendering", unit="picture"):
        made.append(marked(render(100_000 + seed, size=size).pixels))
        registry.add(str(seed), dump(made[-1])[1])
    return registry, made


def recalls(registry: Registry, made: list[Pixels]) -> dict[str, int]:
    """transform -> how many of `made` were recognised as one of ours."""
    rng = np.random.default_rng(0)
    return {
        name: sum(registry.find(change(pixels, rng)) is not None for pixels in tqdm(made, desc=name))
        for name, change in TRANSFORMS.items()
    }


def photos(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Recall on one's own pictures, false alarms on real photos.")
    parser.add_argument("--registry", type=int, default=200, help="how many pictures were made")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--photos", type=Path, help="folder of real photos")
    parser.add_argument("--most", type=int, default=0, help="ask about so many photos, drawn at random; 0: all")
    args = parser.parse_args()
    registry, made = filled(args.registry, args.size)
    print("| transform | recognised | of |\n|---|---|---|")
    for name, hits in recalls(registry, made).items():
        print(f"| {name} | {hits} | {len(made)} |", flush=True)
    if args.photos:
        found, count, started = [], 0, time.perf_counter()
        asked = list(photos(args.photos))
        asked = random.Random(0).sample(asked, min(args.most or len(asked), len(asked)))
        for path in tqdm(asked, desc="real photos", unit="photo"):
            count += 1
            if registry.find(open_photo(path.read_bytes()).pixels) is not None:
                found.append(path)
        per = (time.perf_counter() - started) / max(count, 1)
        print(
            f"{len(found)} of {count} real photos taken for one of ours ({1000 * per:.0f} ms each, decoding included)"
        )
        print(f"At 95 % confidence the rate is below {3 / max(count, 1):.2e} where none was (rule of three).")


if __name__ == "__main__":
    main()
