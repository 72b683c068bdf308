"""What is wrong with a gateway, as far as its own answers tell: reachable, ready, the key, each model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from claimsight.client import Claimsight
from claimsight.errors import ClaimsightError, Unreachable


@dataclass(frozen=True)
class Check:
    """`found` is the state where it is well, else what to do."""

    what: str
    ok: bool
    found: str


def examine(client: Claimsight) -> list[Check]:
    """Every check; those that a lost gateway makes pointless are left out."""
    ready = _checked("gateway", client.ready)
    if isinstance(ready[1], Unreachable):
        return [ready[0]]
    found = [ready[0], _checked("key", lambda: _may_read(client))[0]]
    try:
        answered = client.models()
    except ClaimsightError as refused:
        return [*found, Check("models", False, str(refused))]
    for name, info in answered.model_dump().items():
        failed = "title" in info and "detail" in info
        model = info.get("model", {})
        told = info["detail"] if failed else " ".join(str(v) for v in (model.get("name"), model.get("provider")) if v)
        found.append(Check(name, not failed, told or str(info.get("state", "answers"))))
    return found


def _may_read(client: Claimsight) -> str:
    next(client.claims(), None)
    return "claims can be read"


def _checked(what: str, ask: Callable[[], str]) -> tuple[Check, ClaimsightError | None]:
    try:
        return Check(what, True, ask()), None
    except ClaimsightError as error:
        return Check(what, False, str(error)), error
