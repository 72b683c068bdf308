"""A problem document from another room, turned back into the Problem that was raised there."""

from __future__ import annotations

import math

import httpx2

from services.common.serving.errors import NotReady, Problem, Unauthorized
from services.common.serving.problems import TYPE_PREFIX

_KINDS: dict[tuple[str, int], type[Problem]] = {(kind.slug, kind.status): kind for kind in Problem.__subclasses__()}


def problem(answer: httpx2.Response, service: str) -> Problem:
    """The Problem that a service raised, as far as its document can be read."""
    if answer.status_code == Unauthorized.status:  # a matter between the rooms, and no fault of whoever sent a photo
        return NotReady(f"The {service} does not know this gateway. Give both the same internal_key.")
    try:
        document = answer.json()
        slug = str(document.pop("type")).removeprefix(TYPE_PREFIX)
        status, detail = int(document.pop("status")), str(document.pop("detail"))
    except (ValueError, KeyError, AttributeError, TypeError):
        return Problem(f"The {service} failed with status {answer.status_code}.", retry_after=5)
    extra = {name: value for name, value in document.items() if name not in ("title", "instance", "request_id")}
    found = _KINDS.get((slug, status), Problem)(detail)
    found.extra = extra
    if (seconds := _seconds(answer.headers.get("retry-after", ""))) is not None:
        found.retry_after = seconds
    return found


def _seconds(text: str) -> int | None:
    try:
        return max(0, math.ceil(float(text)))
    except ValueError:
        return None
