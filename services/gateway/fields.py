"""The text fields of a claim, checked: what is stored must be storable, searchable and printable everywhere."""

from __future__ import annotations

import json
import re
from typing import Any, cast, get_args

from pydantic import ValidationError

from services.common.serving.errors import Unprocessable
from services.gateway.schemas import Vehicle, View

_REFERENCE = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_MAX_DEPTH = 20
VIEWS: tuple[View, ...] = get_args(View)


def external_ref(text: bytes | None) -> str | None:
    """The caller's own reference: 1 to 200 printable characters, or None where it is not given."""
    if text is None or not text.strip():
        return None
    try:
        reference = text.decode().strip()
    except UnicodeDecodeError:
        reference = ""
    if not _REFERENCE.fullmatch(reference):
        raise Unprocessable("external_ref takes 1 to 200 printable characters in UTF-8")
    return reference


def deadline_s(text: bytes | None, longest: float) -> float:
    """Seconds until the claim is no longer worth concluding: as the caller says, at most `longest`, which is usual."""
    if text is None or not text.strip():
        return longest
    if not re.fullmatch(rb"\s*[1-9][0-9]{0,8}\s*", text):
        raise Unprocessable("deadline_seconds takes a whole number of seconds, for example 600")
    return min(float(text), longest)


def views(texts: list[bytes], photos: int) -> list[View | None]:
    """What each photo shows. None at all is well; else one for each photo, empty where it is not known."""
    if not texts:
        return [None] * photos
    names = [text.decode("utf-8", "replace").strip() for text in texts]
    if len(names) != photos or any(name and name not in VIEWS for name in names):
        raise Unprocessable(
            f"Send one view for each photo, in their order, or none; each empty or one of {', '.join(VIEWS)}"
        )
    return [cast(View, name) if name else None for name in names]


def vehicle(text: bytes | None) -> dict[str, Any] | None:
    """Which vehicle it is, as far as the caller says."""
    if text is None or not text.strip():
        return None
    try:
        return Vehicle.model_validate_json(text).model_dump()
    except ValidationError:
        raise Unprocessable(
            'vehicle takes a JSON object with any of make, model, year and vin (17 letters and digits): {"make": "VW"}'
        ) from None


def metadata(text: bytes | None) -> dict[str, Any]:
    """The caller's own JSON object, in a form that every database and every client takes."""
    if text is None or not text.strip():
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    return checked(value)


def checked(value: object) -> dict[str, Any]:
    """The same for what has been parsed already. Raises Unprocessable."""
    try:
        # Written back strictly: infinities and lone surrogates show up here and not in an answer.
        written = json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        depth = _depth(value)
    except (ValueError, RecursionError):
        raise Unprocessable('metadata takes a JSON object, for example {"policy": "A-17"}') from None
    if not isinstance(value, dict) or depth > _MAX_DEPTH or b"\\u0000" in written:  # PostgreSQL stores no NUL
        raise Unprocessable(f"metadata takes a JSON object without NUL characters, at most {_MAX_DEPTH} levels deep")
    return value


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)
