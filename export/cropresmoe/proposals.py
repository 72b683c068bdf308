"""What a segmenter takes for damage on training photos: `python -m export.cropresmoe.proposals --run runs/albert ...`.

Drawn boxes teach a classifier what a damage is, never what is none. These boxes, right and wrong ones as the segmenter
makes them, teach it to tell: `presence` is trained on them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from export.albert.data import MASK_SIDE
from export.albert.dataset import open_pixels, read_set
from export.albert.model import OUTPUTS
from export.albert.pack import DECODING, load_run
from export.data.coco import CocoError, Photo, clean_licence
from export.evaluation import mask_iou
from export.labels import Labels, load_labels
from services.common.vision.instances import decode_instances
from services.common.vision.resample import resize

WRONG, RIGHT = 3, 2  # proposals kept per photo, the surest first: more of them say little new
_LISTED = {"damage": 0.01, "fake": 2.0, "part": 2.0}


@dataclass(frozen=True)
class Proposal:
    """One box of a segmenter. `iou` is that of its mask with the best drawn one, whose source label is `label`."""

    photo: str  # file name in the split
    box: tuple[float, float, float, float]
    iou: float
    label: str | None  # None where `iou` is below 0.5

    @property
    def presence(self) -> float:
        """How much it shows a damage, as a training target: near IoU 0.5 masks are neither right nor wrong."""
        return min(1.0, max(0.0, (self.iou - 0.25) / 0.4))


def propose(run: Path, data: Path, split: str, labels: Labels) -> list[Proposal]:
    """The surest right and wrong proposals of the run's model on every photo whose damages are outlined."""
    model, config = load_run(run)
    damage = read_set(data, "damage", split, labels)
    if damage is None:
        raise CocoError(data / "damage" / f"{split}.json", ["there is no such file"])
    found: list[Proposal] = []
    for photo in tqdm(damage.outlined().photos, desc=f"proposals on {split}", mininterval=5):
        if clean_licence(photo):
            found += _of_photo(model, config.preset.size, photo, labels)
    return found


def _of_photo(model: torch.nn.Module, size: int, photo: Photo, labels: Labels) -> list[Proposal]:
    pixels = torch.from_numpy(resize(open_pixels(photo), size, size).copy())[None]
    with torch.no_grad():
        outputs = {name: value[0].numpy() for name, value in zip(OUTPUTS, model(pixels), strict=True)}
    vocabulary = labels.vocabulary
    instances = decode_instances(
        outputs,
        vocabulary=vocabulary,
        supported={"damages": [d.name for d in vocabulary.damages]},
        thresholds={**DECODING, **_LISTED},
    )
    grid = instances[0].mask.shape if instances else (MASK_SIDE, MASK_SIDE)
    truths = np.array([photo.mask(a, *grid) for a in photo.annotations]).reshape(-1, *grid)
    kept: dict[bool, list[Proposal]] = {True: [], False: []}
    for instance in instances:
        iou = mask_iou(instance.mask[None], truths)[0] if len(truths) else np.zeros(0)
        best = int(iou.argmax()) if len(iou) else -1
        value = float(iou[best]) if len(iou) else 0.0
        label = photo.annotations[best].category if value >= 0.5 else None
        same = kept[label is not None]
        if len(same) < (RIGHT if label else WRONG):
            same.append(Proposal(photo.path.name, instance.box, round(value, 3), label))
    return kept[True] + kept[False]


def read_proposals(path: Path) -> dict[str, list[Proposal]]:
    """Proposals by photo. Raises ValueError for a file of another kind."""
    by_photo: dict[str, list[Proposal]] = {}
    try:
        for row in json.loads(path.read_text(encoding="utf-8")):
            proposal = Proposal(row["photo"], tuple(row["box"]), row["iou"], row["label"])
            by_photo.setdefault(proposal.photo, []).append(proposal)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not written by export.cropresmoe.proposals ({error})") from error
    return by_photo


def main() -> None:
    parser = argparse.ArgumentParser(description="List what a segmenter takes for damage on labelled photos.")
    parser.add_argument("--run", type=Path, required=True, help="an ALBERT run")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    found = propose(args.run, args.data, args.split, load_labels())
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps([asdict(p) for p in found]), encoding="utf-8")
    right = sum(p.label is not None for p in found)
    print(f"{len(found)} proposals, {right} of them right, in {args.out}")


if __name__ == "__main__":
    main()
