"""The only way from here to an address that somebody else chose: webhook receivers, and photos given by URL.

Server-side request forgery is refused where it happens, at the connection: the name is resolved once, every address it
has must be public, and the connection goes to that very address (the name stays in `Host`, and in TLS, whose
certificate is checked against it). A name that answers differently a moment later (DNS rebinding) gains nothing, and a
redirect is an answer like any other: whoever follows one asks again here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import httpx2

from services.common.serving.errors import UrlNotAllowed

Address = IPv4Address | IPv6Address

_RESOLVE_S = 5.0
_PORTS = frozenset({443, 8443})
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the last four bytes are an IPv4 address
# What older Pythons take for public (IANA's special-purpose registries, RFC 6890 and later).
_NEVER = tuple(
    ipaddress.ip_network(text)
    for text in ("192.0.0.0/24", "64:ff9b:1::/48", "100::/64", "2001::/23", "2002::/16", "3fff::/20", "5f00::/16")
)


class Unreachable(Exception):
    """The receiver could not be asked. The message says why, in words that its owner may see."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    location: str = ""  # where a redirect leads


@dataclass(frozen=True, slots=True)
class _Target:
    url: httpx2.URL
    addresses: tuple[Address, ...]


class Outbound:
    """Requests to public addresses over HTTPS; and to `private` names, addresses and networks, over HTTP too."""

    def __init__(self, private: Sequence[str] = ()) -> None:
        self._names: set[str] = set()
        self._networks: list[IPv4Network | IPv6Network] = []
        for entry in private:
            try:
                self._networks.append(ipaddress.ip_network(entry.strip(), strict=False))
            except ValueError:
                self._names.add(_name(entry.strip()))

    async def check(self, url: str) -> None:
        """Raises UrlNotAllowed where nothing may be sent to `url` as its name resolves now."""
        await self._resolved(url)

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes = b"", timeout_s: float, max_bytes: int
    ) -> Answer:
        """The answer, at most `max_bytes` of its body, within `timeout_s` for everything together.

        Raises UrlNotAllowed, and Unreachable where nobody answers in time or the answer is larger.
        """
        try:
            async with asyncio.timeout(timeout_s):
                target = await self._resolved(url)
                async with self._answered(method, target, headers, body, timeout_s) as response:
                    received = bytearray()
                    async for chunk in response.aiter_raw():  # as it came: what is packed cannot outgrow its cap
                        received += chunk
                        if len(received) > max_bytes:
                            raise Unreachable(f"The answer has more than {max_bytes} bytes.")
                    return Answer(response.status_code, bytes(received), response.headers.get("location", ""))
        except TimeoutError:
            raise Unreachable(f"No answer came within {timeout_s:g} s.") from None
        except httpx2.TransportError as error:
            raise Unreachable(_words(error)) from error

    @asynccontextmanager
    async def _answered(
        self, method: str, target: _Target, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> AsyncIterator[httpx2.Response]:
        # A connection is never used twice: kept ones are found by address, under which other names may live too.
        limits = httpx2.Limits(max_keepalive_connections=0)
        host = target.url.raw_host.decode("ascii")
        async with httpx2.AsyncClient(
            trust_env=False, follow_redirects=False, limits=limits, timeout=timeout_s
        ) as http:
            request = http.build_request(
                method,
                target.url.copy_with(host=str(target.addresses[0])),
                headers={**headers, "Host": target.url.netloc.decode("ascii")},
                content=body,
                extensions={"sni_hostname": host},
            )
            response = await http.send(request, stream=True, follow_redirects=False)
            try:
                yield response
            finally:
                await response.aclose()

    async def _resolved(self, url: str) -> _Target:
        parsed = _parsed(url)
        named = _name(parsed.host) in self._names
        addresses = await _addresses(parsed)
        trusted = named or all(self._private(address) for address in addresses)
        if not trusted:
            if not all(public(address) for address in addresses):
                raise UrlNotAllowed(
                    "The URL leads to an address that is not public. Use a public receiver, or ask the operator to "
                    "allow this one (CLAIMSIGHT_GATEWAY_PRIVATE_RECEIVERS)."
                )
            if parsed.scheme != "https" or (parsed.port or 443) not in _PORTS:
                raise UrlNotAllowed("The URL must start with https:// and use port 443 or 8443.")
        return _Target(parsed, addresses)

    def _private(self, address: Address) -> bool:
        return any(address.version == network.version and address in network for network in self._networks)


def public(address: Address) -> bool:
    """Whether anybody on the Internet could reach `address`; IPv4 addresses inside IPv6 ones are what counts."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped
        if inner is None and address in _NAT64:
            inner = IPv4Address(address.packed[-4:])
        if inner is not None:
            return public(inner)
    if any(address.version == network.version and address in network for network in _NEVER):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _parsed(url: str) -> httpx2.URL:
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError):
        raise UrlNotAllowed("The URL cannot be read. It should look like https://example.org/hooks") from None
    if parsed.scheme not in ("https", "http") or not parsed.host:
        raise UrlNotAllowed("The URL must start with https:// and name a host.")
    if parsed.userinfo:
        raise UrlNotAllowed("The URL must not hold a user name or password.")
    return parsed


async def _addresses(url: httpx2.URL) -> tuple[Address, ...]:
    port = url.port or (443 if url.scheme == "https" else 80)
    host = url.raw_host.decode("ascii").strip("[]")
    try:
        async with asyncio.timeout(_RESOLVE_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        raise UrlNotAllowed(f"The name {url.host} cannot be resolved. Is it spelt right?") from None
    return tuple(dict.fromkeys(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))


def _name(host: str) -> str:
    return host.rstrip(".").lower()


def _words(error: httpx2.TransportError) -> str:
    if isinstance(error, httpx2.ConnectError):
        certificate = "certificate" in str(error).lower()
        return "The receiver's certificate is not valid." if certificate else "The receiver does not take connections."
    return f"The connection broke ({type(error).__name__})."
