"""`Claimsight`: the API's routes as methods."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx2

from claimsight.batches import Batches
from claimsight.errors import Unfinished
from claimsight.models import Answer, Claim, Models, Photo, PhotoCheck
from claimsight.packs import PackRoutes
from claimsight.transport import Body, Transport

DEFAULT_URL = "http://127.0.0.1:8080"
LONGEST_WAIT_S = 60  # that the gateway grants to one request
Image = str | Path | bytes
"""A photo: where it lies, or its bytes."""

A = TypeVar("A", bound=Answer)


class Claimsight:
    """A client of one gateway; thread-safe, to be closed or used with `with`.

    Requests that are refused because the gateway is busy are sent again when it says so (`Retry-After`), for at most
    `patience_s`, as are those that find a gateway gone which had answered before; submissions carry an Idempotency-Key,
    so that a broken connection makes no second claim.
    Every method raises Refused (a problem document came back) and Unreachable.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        patience_s: float = 120.0,
        http: httpx2.Client | None = None,
    ) -> None:
        """Without `url` and `key`: those of the environment, CLAIMSIGHT_URL and CLAIMSIGHT_API_KEY."""
        url = url or os.environ.get("CLAIMSIGHT_URL") or DEFAULT_URL
        self._transport = Transport(url, key or os.environ.get("CLAIMSIGHT_API_KEY"), patience_s=patience_s, http=http)
        self.url = self._transport.url
        self.batches = Batches(self._transport)
        self.packs = PackRoutes(self._transport)

    def submit(
        self,
        *photos: Image,
        external_ref: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        wait_s: int = 0,
        idempotency_key: str | None = None,
    ) -> Claim:
        """Send one claim's photos; returns it as it is after at most `wait_s` (60 at the longest)."""
        contents = [content(photo) for photo in photos]  # read once, sent as often as it takes
        data = {"external_ref": external_ref, "metadata": json.dumps(metadata) if metadata else None}
        answer = self._transport.send(
            "POST",
            "/v1/claims",
            headers={"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
            | ({"Prefer": f"wait={min(wait_s, LONGEST_WAIT_S)}"} if wait_s else {}),
            body=lambda: {
                "files": [("photos", (f"{n}", each)) for n, each in enumerate(contents)],
                "data": {name: value for name, value in data.items() if value is not None},
            },
        )
        return _read(Claim, answer)

    def claim(self, claim_id: str, *, wait_s: int = 0) -> Claim:
        """The claim as it is once final, or after `wait_s` (60 at the longest)."""
        return _read(Claim, self._transport.send("GET", f"/v1/claims/{claim_id}", params=_wait(wait_s)))

    def finished(
        self, claim: Claim, *, timeout_s: float = 600.0, on_change: Callable[[Claim], None] | None = None
    ) -> Claim:
        """The claim once it is final; `on_change` sees it whenever photos were added to what is done.

        Raises Unfinished after `timeout_s`.
        """
        ends = time.monotonic() + timeout_s
        known = None
        while not claim.final:
            if time.monotonic() > ends:
                raise Unfinished(
                    f"{claim.id} is still {claim.status} after {timeout_s:g} s. It goes on: ask for its id."
                )
            headers: dict[str, str] = {"If-None-Match": known} if known else {}
            path = f"/v1/claims/{claim.id}"
            answer = self._transport.send("GET", path, params=_wait(LONGEST_WAIT_S if known else 0), headers=headers)
            if answer.status_code != 304:
                known, claim = answer.headers.get("ETag"), _read(Claim, answer)
                if on_change:
                    on_change(claim)
        return claim

    def assess(
        self,
        *photos: Image,
        external_ref: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        timeout_s: float = 600.0,
    ) -> Claim:
        """Send one claim's photos and wait for the end of it. Raises Unfinished."""
        claim = self.submit(*photos, external_ref=external_ref, metadata=metadata, wait_s=LONGEST_WAIT_S)
        return self.finished(claim, timeout_s=timeout_s)

    def claims(self, *, status: str | None = None, external_ref: str | None = None) -> Iterator[Claim]:
        """Claims without their photos, newest first, page by page as they are iterated over."""
        asked = {"status": status, "external_ref": external_ref, "page_token": None}
        while True:
            params = {name: value for name, value in asked.items() if value is not None}
            page = self._transport.send("GET", "/v1/claims", params=params).json()
            yield from map(Claim.model_validate, page["data"])
            asked["page_token"] = page.get("next_page_token")
            if not asked["page_token"]:
                return

    def cancel(self, claim_id: str) -> Claim:
        """End a claim as it is. Raises Refused (409) where it was final already."""
        return _read(Claim, self._transport.send("POST", f"/v1/claims/{claim_id}/cancel"))

    def picture(self, photo: Photo, kind: Literal["overlay", "preview"] = "overlay") -> bytes | None:
        """WebP, or None where there is no such picture: the photo failed, or is still to be assessed."""
        link = photo.links.get(kind)
        return self._transport.send("GET", link).content if link else None

    def check(self, photo: Image) -> PhotoCheck:
        """Whether the photo is worth sending, in milliseconds and without the queue."""
        return _read(PhotoCheck, self._transport.send("POST", "/v1/photos:check", body=_one(photo)))

    def analyze(self, photo: Image) -> Photo:
        """One photo's findings at once; nothing is kept at the gateway."""
        answer = self._transport.send("POST", "/v1/damage:analyze", body=_one(photo))
        return Photo.model_validate(answer.json()["photo"])

    def similar(self, photo: Image, *, k: int = 10) -> list[dict[str, Any]]:
        """For each damage on the photo the most similar past cases."""
        answer = self._transport.send("POST", "/v1/similar", params={"k": k}, body=_one(photo))
        found: list[dict[str, Any]] = answer.json()["data"]
        return found

    def models(self) -> Models:
        """Which models answer, on what, and the names they know."""
        return _read(Models, self._transport.send("GET", "/v1/models"))

    def ready(self) -> str:
        """`ready`; where claims cannot be assessed now, Refused says what is missing."""
        return str(self._transport.send("GET", "/health/ready").json().get("state", "ready"))

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def content(photo: Image) -> bytes:
    return photo if isinstance(photo, bytes) else Path(photo).read_bytes()


def _one(photo: Image) -> Body:
    data = content(photo)
    return lambda: {"files": {"photo": ("photo", data)}}


def _wait(seconds: int) -> dict[str, str | int]:
    return {"wait": min(seconds, LONGEST_WAIT_S)} if seconds else {}


def _read(kind: type[A], answer: httpx2.Response) -> A:
    return kind.model_validate_json(answer.content)
