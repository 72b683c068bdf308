"""What the API shows of batches."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field

from services.gateway.schemas import Api, Claim, Error, Progress

BatchStatus = Literal["uploading", "processing", "succeeded", "canceled", "expired"]


class NewBatch(Api):
    """Both members are optional: `{}` makes a batch, too."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"external_ref": "fleet-7", "metadata": {"week": 5}}]})

    external_ref: str | None = Field(None, max_length=200, description="Your own reference")
    metadata: dict[str, Any] = Field({}, description="Your own JSON object, given back unchanged")


class BatchPart(Api):
    """An archive that has arrived whole. Who sends it again under its number changes nothing."""

    number: int
    sha256: str = Field(description="Of the archive")
    bytes: int
    photos: int


class BatchItem(Api):
    """A batch as lists show it."""

    id: str
    object: Literal["batch"] = "batch"
    status: BatchStatus
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    external_ref: str | None = None
    metadata: dict[str, Any]
    links: dict[str, str]


class Batch(BatchItem):
    """`progress` counts the lines of the manifest; those that ended with an error are `failed` as well."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "bat_01M7YXRDS94GYE754JKJY830YH",
                    "object": "batch",
                    "status": "processing",
                    "created_at": "2026-01-31T09:30:00Z",
                    "started_at": "2026-01-31T09:34:10Z",
                    "completed_at": None,
                    "external_ref": "fleet-7",
                    "metadata": {"week": 5},
                    "links": {
                        "self": "/v1/batches/bat_01M7YXRDS94GYE754JKJY830YH",
                        "results": "/v1/batches/bat_01M7YXRDS94GYE754JKJY830YH/results.jsonl",
                    },
                    "progress": {"done": 128, "total": 2000},
                    "failed": 1,
                    "parts": [{"number": 1, "sha256": "9fe7544b" * 8, "bytes": 33_400_832, "photos": 2000}],
                }
            ]
        }
    )

    progress: Progress
    failed: int
    parts: list[BatchPart]


class BatchList(Api):
    object: Literal["list"] = "list"
    data: list[BatchItem]
    next_page_token: str | None = None


class ManifestLine(Api):
    """One line of a manifest: the photos of one claim, by their names in the archives."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": "claim-1", "photos": ["a/1.jpg", "a/2.jpg"]}]})

    id: str = Field(min_length=1, max_length=300, description="Your own name for the line, found again in its result")
    photos: list[str] = Field(min_length=1)
    external_ref: str | None = Field(None, max_length=200)
    metadata: dict[str, Any] = Field({})


class LineResult(Api):
    """One line of `results.jsonl`."""

    line: int = Field(description="From 1, in the manifest's order")
    id: str
    status: Literal["succeeded", "failed", "canceled", "expired", "erased"]
    claim: Claim | None
    error: Error | None = Field(description="Why there is no claim, or why it failed")
