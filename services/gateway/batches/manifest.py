"""A manifest: JSON Lines, each the photos of one claim. A line that cannot be read fails alone, with its number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO

from pydantic import ValidationError

from services.common.serving.errors import Problem, Unprocessable
from services.gateway import failures, fields
from services.gateway.batch_schemas import ManifestLine
from services.gateway.records.models import Json

_MOST_LINE = 64 * 1024  # bytes


def lines(file: IO[bytes], *, max_photos: int) -> Iterator[Json]:
    """Rows for the records, one at a time; empty lines are no lines."""
    number = 0
    while raw := file.readline(_MOST_LINE + 1):
        if not raw.strip():
            continue
        number += 1
        try:
            if len(raw) > _MOST_LINE:
                _skip(file)
                raise Unprocessable(f"it has more than {_MOST_LINE} bytes.")
            line = _line(raw, max_photos)
        except Problem as problem:
            problem.detail = f"Line {number} of the manifest: {problem.detail}"
            error = failures.embedded(problem).model_dump()
            yield {"number": number, "key": str(number), "state": "failed", "document": {"photos": []}, "error": error}
        else:
            document = line.model_dump(exclude={"id"})
            yield {"number": number, "key": line.id, "state": "waiting", "document": document, "error": None}


def _line(raw: bytes, max_photos: int) -> ManifestLine:
    try:
        line = ManifestLine.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise Unprocessable(
            f"it cannot be read ({where or 'JSON'}: {first['msg']}). "
            'It looks like {"id": "claim-1", "photos": ["a.jpg", "b.jpg"]}'
        ) from None
    if len(line.photos) > max_photos:
        raise Unprocessable(f"it names {len(line.photos)} photos; a claim takes {max_photos}.")
    if len(set(line.photos)) < len(line.photos):
        raise Unprocessable("it names a photo twice.")
    if any("\x00" in text for text in (line.id, *line.photos)):  # PostgreSQL stores no NUL
        raise Unprocessable("it has a NUL character.")
    reference = None if line.external_ref is None else fields.external_ref(line.external_ref.encode())
    metadata = fields.metadata(json.dumps(line.metadata).encode())
    return line.model_copy(update={"external_ref": reference, "metadata": metadata})


def _skip(file: IO[bytes]) -> None:
    """Past the end of the line."""
    while (raw := file.readline(_MOST_LINE)) and not raw.endswith(b"\n"):
        pass
