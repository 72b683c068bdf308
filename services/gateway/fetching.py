"""Photos given by URL: fetched from hosts that the operator names, through the one way out (`outbound`)."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urljoin, urlsplit

from services.common.serving.errors import PhotoUnreachable, UrlNotAllowed
from services.gateway.outbound import Outbound, Unreachable

_REDIRECTS = 3
_REDIRECTED = frozenset({301, 302, 303, 307, 308})
_TIMEOUT_S = 15.0


class Fetching:
    """GETs from `hosts` only; `max_bytes` of an answer, counted as they come and never unpacked."""

    def __init__(self, outbound: Outbound, hosts: Iterable[str], *, max_bytes: int) -> None:
        self._outbound = outbound
        self._hosts = frozenset(host.strip().lower() for host in hosts)
        self._max_bytes = max_bytes

    @property
    def on(self) -> bool:
        return bool(self._hosts)

    async def fetch(self, url: str) -> bytes:
        """What lies at `url`. Each redirect is a new request, held to everything that the first one was held to.

        Raises UrlNotAllowed, and PhotoUnreachable where nothing usable comes in time.
        """
        for _ in range(1 + _REDIRECTS):
            self._check(url)
            try:
                answer = await self._outbound.request(
                    "GET",
                    url,
                    headers={"Accept": "image/*", "Accept-Encoding": "identity"},
                    timeout_s=_TIMEOUT_S,
                    max_bytes=self._max_bytes,
                )
            except Unreachable as error:
                raise PhotoUnreachable(f"The photo could not be fetched. {error}") from None
            if answer.status == 200:
                return answer.body
            if answer.status not in _REDIRECTED or not answer.location:
                raise PhotoUnreachable(f"The photo could not be fetched: its host answered {answer.status}.")
            url = urljoin(url, answer.location)
        raise PhotoUnreachable(f"The photo could not be fetched: more than {_REDIRECTS} redirects.")

    def _check(self, url: str) -> None:
        try:
            host = (urlsplit(url).hostname or "").rstrip(".")
        except ValueError:
            host = ""
        if host not in self._hosts:
            raise UrlNotAllowed("Photos are not taken from this host. Your operator names those that may be used.")
