"""A batch's results as they are read from the records: a page of lines in memory at a time, however many there are."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from services.common.vision.enlarge import enlarged
from services.gateway import present, schemas
from services.gateway.batch_schemas import LineResult
from services.gateway.records.batch_rows import Batch, Line
from services.gateway.records.batch_work import BatchWork
from services.gateway.records.clock import to_datetime
from services.gateway.records.models import Claim

_PAGE = 50  # lines
_MOST_PHOTOS = 1000  # of a claim, for numbering images; far above the limit of any setting


async def jsonl(work: BatchWork, batch: Batch) -> AsyncIterator[bytes]:
    """One line for each line of the manifest that has ended, in the manifest's order."""
    async for line, claim in _ended(work, batch):
        status, error = _outcome(line, claim)
        shown = None if claim is None else present.claim(claim)
        found = LineResult.model_validate(
            {"line": line.number, "id": line.key, "status": status, "claim": shown, "error": error}
        )
        yield found.model_dump_json().encode() + b"\n"


async def coco(work: BatchWork, batch: Batch) -> AsyncIterator[bytes]:
    """A COCO file: images, findings as annotations with masks of the photos' own size, damages as categories.

    Read twice, once for each list: what grows with the batch is not held. https://cocodataset.org/#format-data
    """
    names = await work.damages(batch.id)
    categories = [{"id": number, "name": name, "supercategory": "damage"} for number, name in enumerate(names, 1)]
    ids = {name: number for number, name in enumerate(names, 1)}
    created = to_datetime(batch.created_at).isoformat()
    info = {"description": f"Claimsight batch {batch.id}", "date_created": created}
    yield b'{"info": %s, "categories": %s, "images": [' % (_json(info), _json(categories))
    comma = b"\n"
    async for line, claim in _ended(work, batch):
        for image_id, name, photo in _assessed(line, claim):
            image = {"id": image_id, "file_name": name, "width": photo.width, "height": photo.height}
            yield comma + _json({**image, "photo_id": photo.id, "line": line.key})
            comma = b",\n"
    yield b'], "annotations": ['
    comma, number = b"\n", 0
    async for line, claim in _ended(work, batch):
        for image_id, _, photo in _assessed(line, claim):
            for finding in photo.findings:
                number += 1
                placed = {"id": number, "image_id": image_id, "category_id": ids[finding.damage]}
                yield comma + _json(placed | _annotation(finding, photo))
                comma = b",\n"
    yield b"]}\n"


async def _ended(work: BatchWork, batch: Batch) -> AsyncIterator[tuple[Line, Claim | None]]:
    after = 0
    while page := await work.results(batch.id, after, _PAGE):
        for line, claim in page:
            waiting = line.state in ("waiting", "taken") and batch.status == "processing"
            if not waiting and (claim is None or claim.status in present.FINAL):
                yield line, claim
        after = page[-1][0].number


def _outcome(line: Line, claim: Claim | None) -> tuple[str, Any]:
    if claim is not None:
        return claim.status, claim.error
    if line.state == "failed":
        return "failed", line.error
    return ("erased" if line.state == "sent" else "canceled"), None


def _assessed(line: Line, claim: Claim | None) -> list[tuple[int, str, schemas.Photo]]:
    """Number, name in the archive, and what was found: of the photos that could be assessed."""
    photos = [] if claim is None else [present.photo(row) for row in claim.photos]
    names = line.document["photos"]
    return [
        (line.number * _MOST_PHOTOS + position, names[position] if position < len(names) else photo.id, photo)
        for position, photo in enumerate(photos)
        if photo.status == "succeeded"
    ]


def _annotation(finding: schemas.Finding, photo: schemas.Photo) -> dict[str, Any]:
    height, width = photo.height or 1, photo.width or 1
    x0, y0, x1, y1 = finding.box
    counts, area = enlarged(finding.mask.size, finding.mask.counts, height, width)
    return {
        "bbox": [round(v, 2) for v in (x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height)],
        "area": area,
        "segmentation": {"size": [height, width], "counts": counts},
        "iscrowd": 0,
        "score": finding.confidence,
        "part": finding.part.name if finding.part else None,
        "route": finding.route,
    }


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
