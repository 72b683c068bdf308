"""One thing that was looked at, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail", "off"]


@dataclass(frozen=True)
class Check:
    """`warn` works and could bite, `fail` does not work, `off` does not concern this machine; `fix` is one line."""

    what: str
    state: State
    found: str
    fix: str = ""
