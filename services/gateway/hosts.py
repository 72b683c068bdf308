"""Which names the gateway answers to: it knows no keys, so a foreign web page must not reach it through a browser."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.common.serving.errors import ForeignHost, ForeignOrigin

_READING = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, section 9.2.1
_HOW = "CLAIMSIGHT_GATEWAY_HOSTS, names with commas between them"


class HostsMiddleware:
    """Refuse requests to a name that is not ours, and writing ones that another site's page has sent.

    The first stops DNS rebinding: a page's own name that suddenly means this machine. That takes a name, so addresses
    always pass, and with them health checks. The second stops posts across sites (RFC 6454: browsers say in `Origin`
    whose page is asking; other programs send none). Both raise, for the middleware around this one to answer.
    """

    def __init__(self, app: ASGIApp, *, listening: str, allowed: Iterable[str]) -> None:
        """`allowed`: more names than loopback's and the one listened on; "*" is every one, but no foreign origin."""
        self.app = app
        self.allowed = frozenset(name.strip().lower() for name in allowed)
        self.own = self.allowed | {"localhost", listening.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            host, origin = headers.get("host", ""), headers.get("origin")
            self._check_host(host)
            if origin is not None and scope["method"] not in _READING:
                self._check_origin(origin, host)
        await self.app(scope, receive, send)

    def _check_host(self, host: str) -> None:
        name = _name(f"//{host}")
        if "*" not in self.own and name not in self.own and not _is_address(name):
            raise ForeignHost(f"This gateway is not known as {name[:100]!r}. If it should be, add that name to {_HOW}.")

    def _check_origin(self, origin: str, host: str) -> None:
        same = origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())  # a proxy may have ended TLS
        if not same and _name(origin) not in self.allowed:
            raise ForeignOrigin(
                f"A page of {origin[:100]!r} may not send claims here. If it should, add its name to {_HOW}; "
                "if it is this gateway's own page behind a proxy, let the proxy pass on the Host header."
            )


def _name(url: str) -> str:
    """The host of a URL or of `//host:port`, in lower case; empty where there is none."""
    try:
        return (urlsplit(url).hostname or "").removesuffix(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
