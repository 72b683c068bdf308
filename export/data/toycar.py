"""The toy car: procedurally rendered claim photos with exact masks of parts, damages and fakes.

It looks like a toy and is called `toycar` everywhere: numbers measured on it say that software works, never how well
it does on cars. Deterministic by seed.

    python -m export.data.toycar --out folder --count 200
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from export.data.coco_writer import CocoWriter, Region
from export.data.toycar_camera import AZIMUTHS, Spots, draw, look
from export.data.toycar_damage import DAMAGES, SHOWN_ON, Place, deform
from export.data.toycar_fakes import FAKES
from export.data.toycar_geometry import BODIES, SURFACES, mesh
from export.data.toycar_parts import part_maps
from export.data.toycar_patch import Bools, Patch
from export.data.toycar_render import Shot, photograph, shade, world
from export.labels import load_labels

_LABELS = load_labels()
_NAMES = {i: name for name, i in _LABELS.part_ids().items()}


@dataclass(frozen=True)
class Instance:
    """One damage or fake: `mask` as a labeller would outline it, `strict_mask` what really changed; both [h, w]."""

    kind: str  # damage | fake
    label: str
    part: str
    mask: Bools
    strict_mask: Bools


@dataclass(frozen=True)
class Scene:
    """One rendered photo: uint8 [size, size, 3], exclusive part masks, damages and fakes as they were made."""

    pixels: NDArray[np.uint8]
    parts: dict[str, Bools]
    instances: list[Instance]
    view: str


def render(
    seed: int,
    *,
    size: int = 512,
    view: str | None = None,
    damages: Sequence[str] | None = None,
    fakes: Sequence[str] | None = None,
) -> Scene:
    """One photo. `view`: one of AZIMUTHS; `damages`, `fakes`: names to show, each where it can occur.

    Left out, they are drawn at random. A name that fits on nothing this view shows is left out of the scene.
    ValueError for names the renderer cannot show.
    """
    return _claim(seed, [view], size, damages, fakes)[0]


def render_claim(
    seed: int,
    n_views: int,
    *,
    size: int = 512,
    damages: Sequence[str] | None = None,
    fakes: Sequence[str] | None = None,
) -> list[Scene]:
    """Several photos of one car with the same damages; what a view does not show is not among its instances."""
    rng = np.random.default_rng([seed, 1])
    around = list(AZIMUTHS)
    start = int(rng.integers(len(around)))
    views = [around[(start + i) % len(around)] for i in range(n_views)]
    return _claim(seed, views, size, damages, fakes)


def _claim(
    seed: int, views: Sequence[str | None], size: int, damages: Sequence[str] | None, fakes: Sequence[str] | None
) -> list[Scene]:
    for names, known in ((damages or (), DAMAGES), (fakes or (), FAKES), ([v for v in views if v], AZIMUTHS)):
        if unknown := sorted(set(names) - set(known)):
            raise ValueError(f"the toy car cannot show {', '.join(unknown)}; it knows {', '.join(known)}")
    rng = np.random.default_rng([seed, 0])
    body = str(rng.choice(list(BODIES)))
    w = world(rng)
    chosen = [view or str(rng.choice(list(AZIMUTHS))) for view in views]
    cameras = [look(rng, mesh(body), view, size) for view in chosen]
    if damages is None:
        damages = rng.choice(list(DAMAGES), rng.integers(0, 4)).tolist()
    if fakes is None:
        fakes = rng.choice(list(FAKES), rng.integers(0, 3)).tolist()
    spots = draw(mesh(body), cameras[0], size)
    # Surfaces seen edge-on show nothing of a damage: only spots turned to the camera are chosen.
    shot = Shot(w, body, cameras[0], spots, _ids(body, spots), size)
    turned = -(shot.rays * spots.normal).sum(-1) > 0.35
    patches = _patches(rng, shot, turned, damages, fakes)
    bent = deform(mesh(body), patches, SURFACES)
    scenes = []
    for i, (view, camera) in enumerate(zip(chosen, cameras, strict=True)):
        if i or bent is not mesh(body):
            spots = draw(bent, camera, size)
            shot = Shot(w, body, camera, spots, _ids(body, spots), size)
        scenes.append(_scene(np.random.default_rng([seed, 2, i]), shot, view, patches))
    return scenes


def _ids(body: str, spots: Spots) -> NDArray[np.uint8]:
    ids = np.zeros(len(spots.index), np.uint8)
    for i, name in enumerate(SURFACES):
        on = spots.surface == i
        ids[on] = part_maps(body)[name].at(spots.u[on], spots.v[on])
    return ids


def _patches(
    rng: np.random.Generator, shot: Shot, turned: Bools, damages: Sequence[str], fakes: Sequence[str]
) -> list[Patch]:
    """Each name painted on a visible part where it can occur, at a spot that is `turned` to the camera.

    No part gets the same twice.
    """
    spots, ids = shot.spots, np.where(turned, shot.ids, 0)
    patches: list[Patch] = []
    visible = np.bincount(ids, minlength=len(_NAMES) + 1)
    # Painted sheets that are large enough to show what lies on them: hail finds them, and pillars cannot be pierced.
    panels = {p.name for p in _LABELS.vocabulary.parts if {"haildent", "punctured"} <= set(p.damages)}
    for label, makers in [*((d, DAMAGES) for d in damages), *((f, FAKES) for f in fakes)]:
        taken = {p.part for p in patches if p.label == label}
        if makers is FAKES:
            fits = panels
        else:
            possible = {p.name for p in _LABELS.vocabulary.parts if label in p.damages}
            large = possible & (panels | {"front_bumper", "rear_bumper"}) or possible
            fits = possible & set(SHOWN_ON.get(label, large))
        choices = [i for i, name in _NAMES.items() if name in fits - taken and visible[i] > 0.004 * len(ids)]
        if not choices:
            continue
        share = np.sqrt(visible[choices].astype(np.float64))  # large panels get most of it, as on the road
        part = int(rng.choice(choices, p=share / share.sum()))
        spot = int(rng.choice(np.flatnonzero(ids == part)))
        place = Place(
            part=_NAMES[part],
            surface=SURFACES[spots.surface[spot]],
            centre=(float(spots.u[spot]), float(spots.v[spot])),
            grain=float(1 / spots.scale[spot]),
            paint=shot.world.paint,
        )
        patches.append(makers[label](rng, place))
    return patches


def _scene(rng: np.random.Generator, shot: Shot, view: str, patches: list[Patch]) -> Scene:
    spots, ids, size = shot.spots, shot.ids, shot.size

    def mask(index: NDArray[np.int64]) -> Bools:
        flat = np.zeros(size * size, np.bool_)
        flat[spots.index[index]] = True
        return flat.reshape(size, size)

    parts = {_NAMES[i]: mask(np.flatnonzero(ids == i)) for i in np.unique(ids).tolist() if i}
    instances = []
    for p in patches:
        k, texel, _ = p.where(spots, ids)
        shown = mask(k[p.mask.ravel()[texel]])
        if shown.any():
            strict = mask(k[p.strict.ravel()[texel]])
            instances.append(Instance(p.kind, p.label, p.part, shown, strict))
    return Scene(photograph(rng, shade(shot, patches)), parts, instances, view)


def main() -> None:
    parser = argparse.ArgumentParser(description="Render toy cars with exact masks as a COCO data set.")
    parser.add_argument("--out", type=Path, required=True, help="folder for images/ and annotations.json")
    parser.add_argument("--count", type=int, default=200, help="photos (default 200)")
    parser.add_argument("--size", type=int, default=512, help="pixels a side (default 512)")
    parser.add_argument("--seed", type=int, default=0, help="first seed; photo i uses seed + i")
    options = parser.parse_args()
    names = _LABELS.vocabulary
    kinds = (("damage", names.damages), ("fake", names.fakes), ("part", names.parts))
    writer = CocoWriter(options.out, [(entry.name, kind) for kind, entries in kinds for entry in entries])
    for seed in tqdm(range(options.seed, options.seed + options.count), unit="photo"):
        scene = render(seed, size=options.size)
        regions = [Region(i.label, i.mask, i.part) for i in scene.instances]
        regions += [Region(name, mask) for name, mask in scene.parts.items()]
        writer.add(f"toycar_{seed:06d}", scene.pixels, regions, {"source": "toycar", "group": seed, "view": scene.view})
    print(f"{options.count} photos in {writer.close('rendered toy cars, not photos of cars')}")


if __name__ == "__main__":
    main()
