"""Opaque page tokens: the last id of the page before, spelt so that nobody builds one."""

from __future__ import annotations

import base64
import binascii

from services.common.serving.errors import Unprocessable
from services.gateway import ids


def token(last_id: str) -> str:
    return base64.urlsafe_b64encode(last_id.encode()).decode().rstrip("=")


def opened(kind: ids.Kind, text: str) -> str:
    """The id in a token of an earlier answer; raises Unprocessable."""
    try:
        last_id = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, ValueError):
        last_id = ""
    if not ids.valid(kind, last_id):
        raise Unprocessable("page_token takes a next_page_token of an earlier answer, unchanged")
    return last_id
