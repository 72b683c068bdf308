"""What the synchronous routes answer: nothing of it is kept."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from services.common.serving.schemas import Box, ModelRef, Neighbour
from services.gateway.schemas import Api, Photo, Reason, Summary


class PhotoCheck(Api):
    """Whether a photo is worth sending. `retake`: another one is likely to be judged better, and `issues` say how."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "object": "photo_check",
                    "verdict": "retake",
                    "issues": [
                        {"code": "too_dark", "text": "The photo is dark. Take it in daylight or with the flash."}
                    ],
                    "sha256": "9fe7544b" * 8,
                    "bytes": 2_310_512,
                    "width": 4032,
                    "height": 3024,
                    "measures": {"luma": 31.4, "burnt": 0.0, "sharpness": 212.5},
                }
            ]
        }
    )

    object: Literal["photo_check"] = "photo_check"
    verdict: Literal["ok", "retake"]
    issues: list[Reason]
    sha256: str
    bytes: int
    width: int
    height: int
    measures: dict[str, float] = Field(
        description="luma: mean, 0 to 255; burnt: share without detail; sharpness: variance of the Laplacian"
    )


class Analysis(Api):
    """One photo assessed at once. It is no claim: nothing is kept, and its ids lead nowhere."""

    object: Literal["analysis"] = "analysis"
    photo: Photo
    summary: Summary
    models: dict[str, ModelRef]


class Similar(Api):
    """The past cases nearest to one region of a photo."""

    box: Box
    damage: str | None = Field(
        description="The segmenter's name for the region; null where the caller named the region"
    )
    opinion: str = Field(description="The classifier's most probable class of the region")
    neighbours: list[Neighbour]


class SimilarCases(Api):
    object: Literal["list"] = "list"
    data: list[Similar]
    models: dict[str, ModelRef]
