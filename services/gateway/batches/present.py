"""From the rows of a batch to what the API shows."""

from __future__ import annotations

from collections.abc import Sequence

from services.gateway import batch_schemas
from services.gateway.records.batch_rows import Batch, Part
from services.gateway.records.batches import Counts
from services.gateway.records.clock import to_datetime

FINAL = frozenset({"succeeded", "canceled", "expired"})


def item(row: Batch) -> batch_schemas.BatchItem:
    here = f"/v1/batches/{row.id}"
    links = {"self": here}
    if row.status != "uploading":
        links["results"] = f"{here}/results.jsonl"
    if row.status in FINAL:
        links["coco"] = f"{here}/results.coco.json"
    return batch_schemas.BatchItem.model_validate(
        {
            "id": row.id,
            "status": row.status,
            "created_at": to_datetime(row.created_at),
            "started_at": None if row.started_at is None else to_datetime(row.started_at),
            "completed_at": None if row.completed_at is None else to_datetime(row.completed_at),
            "external_ref": row.external_ref,
            "metadata": row.annotations,
            "links": links,
        }
    )


def batch(row: Batch, counts: Counts, parts: Sequence[Part]) -> batch_schemas.Batch:
    """Of a batch that has ended every line counts as done, those that never became claims too."""
    return batch_schemas.Batch.model_validate(
        {
            **item(row).model_dump(),
            "progress": {"done": counts.total if row.status in FINAL else counts.done, "total": counts.total},
            "failed": counts.failed,
            "parts": [
                {"number": part.number, "sha256": part.sha256, "bytes": part.bytes, "photos": part.photos}
                for part in parts
            ],
        }
    )
