"""Where the training photos came from and who holds which rights: what every manifest states."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from export.data.coco import clean_licence, read_coco
from export.labels import Labels
from services.common.serving.modelpack import DataSource

_RIGHTS = {
    "bilgi": (
        "claim photos with polygons",
        "CC BY 4.0 as its uploader declares (Roboflow, bilgi-university-car-damage)",
    ),
    "bilgi, names of another set": (
        "claim photos with polygons",
        "CC BY 4.0 as its uploader declares, which cannot cover them: file names of a set that is given out on a form",
    ),
    "kag1512": ("small damage photos", "none stated"),
    "whole": ("undamaged cars", "none stated"),
    "wheel": ("frames of one wheel", "none stated"),
    "dsmlr": (
        "undamaged cars with part masks",
        "no licence; asks for citation: Pasupa et al. 2021, Car Parts Segmentation",
    ),
    "carcomp": (
        "undamaged cars with part boxes",
        "CC BY 4.0 as its uploader declares (Roboflow, car-components-dataset-gipax)",
    ),
}


def _sources(names: list[str]) -> list[DataSource]:
    rows = []
    for name, photos in Counter(names).most_common():
        what, rights = _RIGHTS.get(name, ("photos", "not stated"))
        rows.append(DataSource(name=f"{name}: {what}", photos=photos, rights=rights))
    return rows


def taught_by(*, all_licences: bool) -> str:
    """The damage photos in a few words, for a pack's notes."""
    if all_licences:
        return "claim photos of which many state no licence (see data: for evaluation, not for commercial use)"
    return "CC BY 4.0 claim photos only (as their uploader declares)"


def damage_sources(data: Path, labels: Labels, *, all_licences: bool, outlined: bool = False) -> list[DataSource]:
    """Training photos with damages, by source. `outlined`: those that segmentation can learn from."""
    found = read_coco(data / "damage" / "train.json", categories=labels.sources["damage6"])
    photos = found.outlined().photos if outlined else found.photos
    kept = [p for p in photos if all_licences or clean_licence(p)]
    return _sources([f"{p.source}, names of another set" if p.cardd_like_name else p.source for p in kept])


def part_sources(data: Path, labels: Labels) -> list[DataSource]:
    """Training photos with parts, by source."""
    return _sources(
        [p.source for p in read_coco(data / "parts" / "train.json", categories=labels.sources["parts18"]).photos]
    )
