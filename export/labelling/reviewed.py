"""What people decided at `/review`, as a training split: `python -m export.labelling.reviewed --out DATA`.

Asks a gateway for every decided case and writes DATA/damage/reviewed.json with the photos beside it, upright and at
most 1280 pixels wide or high, as the public API shows them. Confirmed, corrected and drawn damages are annotations with
box, outline and part; rejected ones are gone; what nobody decided stands in `other`; a photo on which a person agreed
that there is nothing is a negative. Photos of one claim share a group. Photos that are there already are not asked for
again. `export.labelling.finetune` trains on it.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from claimsight.client import DEFAULT_URL
from claimsight.errors import ClaimsightError
from claimsight.transport import Transport
from PIL import Image
from tqdm import tqdm

from export.albert.dataset import DAMAGES
from export.data.coco import CocoError, read_coco
from export.labelling.corrected import SPLIT
from export.labelling.regions import Labelled, Region
from export.labelling.tasks import coco
from export.labels import load_labels

_PAGE = 100  # cases asked for at once
_LEARNED = ("accept", "correct", "add")
Json = dict[str, Any]


def categories() -> tuple[dict[str, str], dict[str, str]]:
    """Class -> category of the split, and damage -> class where one class alone is meant."""
    sources = {name: source for name, source in load_labels().sources[DAMAGES].items() if source.serves}
    meant = {damage: source.serves for source in sources.values() for damage in source.names if source.serves}
    return {source.serves: name for name, source in sources.items() if source.serves}, meant


def decided_claims(gateway: Transport) -> Iterator[str]:
    """Claims in which something was decided, each once."""
    seen: set[str] = set()
    token = None
    while True:
        params: dict[str, str | int] = {"state": "done", "page_size": _PAGE, **({"page_token": token} if token else {})}
        page = gateway.send("GET", "/v1/reviews", params=params).json()
        for case in page["data"]:
            if case["claim_id"] not in seen:
                seen.add(case["claim_id"])
                yield case["claim_id"]
        token = page["next_page_token"]
        if token is None:
            return


def pictures(claim: Json, meant: Mapping[str, str]) -> Iterator[tuple[Json, tuple[Region, ...], str | None]]:
    """The photos of a claim that teach something: photo, what is on it, and why there is nothing on it."""
    agreed = ((claim["summary"] or {}).get("review") or {}).get("action") == "accept"
    for photo in claim["photos"]:
        if photo["status"] != "succeeded":
            continue
        left = [one for one in photo["findings"] if (one["review"] or {}).get("action") != "reject"]
        regions = tuple(_region(finding, meant) for finding in left)
        if any(region.name for region in regions):
            yield photo, regions, None
        elif not regions and (agreed or photo["findings"]):
            yield photo, (), "reviewed: no damage"


def _region(finding: Json, meant: Mapping[str, str]) -> Region:
    """Named where a person decided, and only where the name means one class."""
    told = (finding["review"] or {}).get("action") in _LEARNED
    drawn = finding["source"] == "human"
    return Region(
        box=tuple(finding["box"]),
        name=meant.get(finding["damage"], "") if told else "",
        confidence=finding["confidence"],
        source="human" if told else "review",
        polygons=() if drawn else tuple(tuple(map(tuple, ring)) for ring in finding["polygons"] if len(ring) >= 3),
        part=finding["part"]["name"] if finding["part"] else None,
    )


def collect(gateway: Transport, out: Path) -> Path:
    """Write the split; the file appears when all of its photos are there. Raises ClaimsightError, CocoError."""
    names, meant = categories()
    folder = out / "damage"
    (folder / SPLIT).mkdir(parents=True, exist_ok=True)
    found: list[Labelled] = []
    for claim_id in tqdm(list(decided_claims(gateway)), desc="claims", unit="claim"):
        claim = gateway.send("GET", f"/v1/claims/{claim_id}").json()
        group = int(hashlib.sha256(claim_id.encode()).hexdigest()[:12], 16)
        for photo, regions, negative in pictures(claim, meant):
            path = folder / SPLIT / f"{photo['id']}.webp"
            if not path.is_file():
                _keep(gateway.send("GET", photo["links"]["preview"]).content, path)
            with Image.open(path) as picture:
                width, height = picture.size
            found.append(Labelled(f"{SPLIT}/{path.name}", width, height, regions, group, negative))
    beside = folder / f".{SPLIT}.json"
    beside.write_text(json.dumps(coco(found, names)), encoding="utf-8")
    read_coco(beside)  # what the trainers cannot read is not left lying where they look
    return beside.replace(folder / f"{SPLIT}.json")


def _keep(data: bytes, path: Path) -> None:
    """Whole or not at all; what is no picture raises before it is kept."""
    with Image.open(io.BytesIO(data)) as picture:
        picture.verify()
    beside = path.with_suffix(".part")
    beside.write_bytes(data)
    beside.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="People's decisions as a split that export/ trains on.")
    parser.add_argument("--gateway", default=os.environ.get("CLAIMSIGHT_URL") or DEFAULT_URL)
    parser.add_argument("--out", type=Path, required=True, help="data folder to write damage/reviewed.json into")
    args = parser.parse_args()
    gateway = Transport(args.gateway, os.environ.get("CLAIMSIGHT_API_KEY"), patience_s=120)
    try:
        path = collect(gateway, args.out)
    except (ClaimsightError, CocoError) as error:
        parser.exit(1, f"{error}\n")
    finally:
        gateway.close()
    photos = read_coco(path).photos
    labels = sum(len(photo.annotations) for photo in photos)
    print(f"{len(photos)} photos with {labels} labels in {path}.")


if __name__ == "__main__":
    main()
