"""Sending a request until it is answered: waits as the gateway asks, never longer than the caller allows."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2

from claimsight.errors import ClaimsightError, Refused, Unreachable

_AGAIN = frozenset({429, 502, 503, 504})  # what can be over in a moment; everything else needs another request
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_BETWEEN_BYTES_S = 100.0  # above the longest wait (60 s) that a request may ask of the gateway

Body = Callable[[], Mapping[str, Any]]
"""Makes the body's arguments for one attempt (`files=`, `content=`): a stream can be read only once."""


class Transport:
    """One kept-alive connection pool to one gateway."""

    def __init__(self, url: str, key: str | None, *, patience_s: float, http: httpx2.Client | None = None) -> None:
        """`patience_s`: how long a request may be tried again altogether; `http`: a client of the caller's own."""
        if urlsplit(url).scheme not in ("http", "https"):
            raise Unreachable(f"{url!r} is no address of a gateway. It looks like http://127.0.0.1:8080")
        self.url = url.rstrip("/")
        self._patience_s = patience_s
        self._http = http or httpx2.Client(timeout=httpx2.Timeout(_BETWEEN_BYTES_S, connect=5))
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._answered = False

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        repeatable: bool = True,
    ) -> httpx2.Response:
        """The answer, 2xx or 304. Raises Refused and Unreachable.

        `repeatable`: whether sending it twice does no harm. Where it does, only refusals are tried again: those left
        nothing behind, whereas a broken connection tells nothing.
        """
        ends = time.monotonic() + self._patience_s
        attempt = 0
        last: ClaimsightError
        while True:
            try:
                answer = self._http.request(
                    method,
                    self.url + path,
                    params=dict(params or {}),
                    headers={**self._headers, **(headers or {})},
                    **(body() if body else {}),
                )
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                # Where nobody has answered yet, the address is wrong or nothing was started: waiting mends neither.
                pause, last, again = backoff(attempt), _unreachable(self.url, error), self._answered
            except httpx2.TransportError as error:
                pause, last, again = backoff(attempt), _unreachable(self.url, error), repeatable
            else:
                self._answered = True
                if not answer.is_error:
                    return answer
                refused = refusal(answer)
                last, again = refused, answer.status_code in _AGAIN
                pause = backoff(attempt) if refused.retry_after is None else refused.retry_after
            if not again or time.monotonic() + pause > ends:
                raise last
            time.sleep(pause)
            attempt += 1

    def stream(self, path: str) -> httpx2.Response:
        """A 2xx answer whose body is still to be read; the caller closes it."""
        request = self._http.build_request("GET", self.url + path, headers=self._headers)
        try:
            answer = self._http.send(request, stream=True)
            if answer.is_error:
                answer.read()
                raise refusal(answer)
        except httpx2.TransportError as error:
            raise _unreachable(self.url, error) from error
        return answer

    def close(self) -> None:
        self._http.close()


def backoff(attempt: int) -> float:
    """Seconds before the next try: doubling, with full jitter, so that many clients do not come back together."""
    return random.uniform(0.1, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt))


def refusal(answer: httpx2.Response) -> Refused:
    try:
        members = answer.json()
    except ValueError:
        members = {}
    return Refused(answer.status_code, members if isinstance(members, dict) else {}, retry_after(answer))


def retry_after(answer: httpx2.Response) -> float | None:
    """Seconds of `Retry-After`; dates, which the gateway does not send, count as none."""
    try:
        return max(0.0, float(answer.headers.get("Retry-After", "")))
    except ValueError:
        return None


def _unreachable(url: str, error: Exception) -> Unreachable:
    return Unreachable(
        f"{url} cannot be reached ({error or type(error).__name__}). Is Claimsight running there? "
        "`make run` starts it; --url or CLAIMSIGHT_URL names another address."
    )
