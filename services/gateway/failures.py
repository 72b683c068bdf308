"""Errors as they stand inside a claim: the same words a problem document would use."""

from __future__ import annotations

from services.common.serving import errors
from services.common.serving.errors import Problem
from services.common.serving.problems import TYPE_PREFIX
from services.common.vision.photo import PhotoError
from services.gateway.schemas import Error

_PHOTO_PROBLEMS: dict[str, type[Problem]] = {
    "photo-empty": errors.PhotoUndecodable,
    "photo-undecodable": errors.PhotoUndecodable,
    "photo-too-many-pixels": errors.PhotoTooManyPixels,
    "unsupported-media-type": errors.UnsupportedMediaType,
}


def photo_problem(error: PhotoError) -> Problem:
    """The problem that a photo which cannot be used would be on its own."""
    return _PHOTO_PROBLEMS[error.code](str(error))


def embedded(problem: Problem) -> Error:
    return Error(type=TYPE_PREFIX + problem.slug, title=problem.title, status=problem.status, detail=problem.detail)


def exhausted() -> Error:
    """A claim that no worker could assess. What happened is in the log; a client can only send it again."""
    return embedded(
        Problem("The claim could not be assessed after several tries. Send it again; if it stays, report its id.")
    )
