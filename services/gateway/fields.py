"""The text fields of a claim, checked: what is stored must be storable, searchable and printable everywhere."""

from __future__ import annotations

import json
import re
from typing import Any

from services.common.serving.errors import Unprocessable

_REFERENCE = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_MAX_DEPTH = 20


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
