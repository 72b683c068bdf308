"""Ids with a prefix that says what they name: sortable by creation, not to be counted or guessed."""

from __future__ import annotations

import re
from typing import Literal

from ulid import ULID

Kind = Literal["era", "key", "bat", "clm", "gen", "img", "pho", "fnd", "rev", "lse", "whk", "evt", "dlv", "trl"]
_ULID = "[0-7][0-9A-HJKMNP-TV-Z]{25}"  # Crockford's base 32, 128 bits


def new(kind: Kind) -> str:
    return f"{kind}_{ULID()}"


def valid(kind: Kind, text: str) -> bool:
    return re.fullmatch(f"{kind}_{_ULID}", text) is not None
