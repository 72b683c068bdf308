"""What is wrong with a gateway, as far as its own answers tell: reachable, ready, the key, each model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from claimsight.client import Claimsight
from claimsight.errors import ClaimsightError, Unreachable


@dataclass(frozen=True)
class Check:
    """`warn` works and could bite, `fail` does not work, `off` is not there to be checked; `fix` is one line."""

    what: str
    state: Literal["ok", "warn", "fail", "off"]
    found: str
    fix: str = ""


def examine(client: Claimsight, *, expected: bool = True) -> Iterator[Check]:
    """Every check; those that a lost gateway makes pointless are left out.

    Without being `expected`, a gateway that is not there is none that was started, and no fault.
    """
    ready, error = _checked("gateway", client.ready, "Ask again when what is named there is ready; its log says why.")
    if isinstance(error, Unreachable) and not expected:
        yield Check("gateway", "off", f"nothing runs at {client.url}; `make run` starts it, --url names another")
        return
    yield ready
    if isinstance(error, Unreachable):
        return
    yield _checked("key", lambda: _may_read(client), "Give a key with the scope read: --key or CLAIMSIGHT_API_KEY.")[0]
    try:
        answered = client.models()
    except ClaimsightError as refused:
        yield Check("models", "fail", str(refused), "The answer above names what to do.")
        return
    for name, info in answered.model_dump().items():
        failed = "title" in info and "detail" in info
        model = info.get("model", {})
        told = info["detail"] if failed else " ".join(str(v) for v in (model.get("name"), model.get("provider")) if v)
        fix = f"Look at the log of the {name} and at its /health/ready." if failed else ""
        yield Check(name, "fail" if failed else "ok", told or str(info.get("state", "answers")), fix)


def _may_read(client: Claimsight) -> str:
    next(client.claims(), None)
    return "claims can be read"


def _checked(what: str, ask: Callable[[], str], fix: str) -> tuple[Check, ClaimsightError | None]:
    try:
        return Check(what, "ok", ask()), None
    except Unreachable as error:
        return Check(what, "fail", str(error)), error  # which says what to do
    except ClaimsightError as error:
        return Check(what, "fail", str(error), fix), error
