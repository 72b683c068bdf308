"""Nothing inside can be reached through an address that a client chose."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

import pytest

from services.common.serving.errors import UrlNotAllowed
from services.gateway.outbound import Outbound, Unreachable, public
from tests.unit.gateway.receiver import receiving

FORBIDDEN = (
    "127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "192.0.0.8",
    "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001:db8::1", "100::1",
)  # fmt: skip


@pytest.mark.parametrize("address", FORBIDDEN)
def test_an_address_that_is_not_everybodys_is_not_public(address: str) -> None:
    assert not public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:2800:21f:cb07::1", "::ffff:93.184.215.14", "64:ff9b::5db8:d70e"]
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "https://127.0.0.1/", "https://localhost./", "https://2130706433/", "https://0177.0.0.1/",
        "https://0x7f.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://169.254.169.254/latest/meta-data",
        "https://user:secret@93.184.215.14/", "ftp://93.184.215.14/", "file:///etc/passwd", "gopher://93.184.215.14/",
        "http://93.184.215.14/", "https://93.184.215.14:22/", "https:///", "//93.184.215.14/", "https://a b/", "x",
        "https://does-not-exist.invalid/", "https://" + "a" * 300 + ".com/", "https://[fe80::1%25eth0]/",
    ],
)  # fmt: skip
async def test_a_url_that_leads_inside_or_nowhere_is_refused(url: str) -> None:
    with pytest.raises(UrlNotAllowed):
        await Outbound().check(url)


@pytest.mark.parametrize(
    "url", ["https://93.184.215.14/hook", "https://93.184.215.14:8443/", "https://[2606:2800::1]/"]
)
async def test_a_public_receiver_may_be_named(url: str) -> None:
    await Outbound().check(url)


async def test_a_name_with_one_inner_address_among_public_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _resolve(monkeypatch, "93.184.215.14", "10.0.0.1")
    with pytest.raises(UrlNotAllowed):
        await Outbound().check("https://mixed.example/")


async def test_a_name_that_turns_inside_after_it_was_registered_is_refused_at_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with receiving() as receiver:
        port = receiver.url.split(":")[2].split("/")[0]
        _resolve(monkeypatch, "93.184.215.14")
        await Outbound().check("https://rebinding.example:8443/")
        _resolve(monkeypatch, "127.0.0.1")
        with pytest.raises(UrlNotAllowed):
            await Outbound().request(
                "POST", f"https://rebinding.example:{port}/", headers={}, timeout_s=2, max_bytes=10
            )
        assert receiver.got == []


async def test_the_connection_goes_to_the_address_that_was_checked_and_no_second_look_up_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with receiving() as receiver:
        port = int(receiver.url.split(":")[2].split("/")[0])
        asked = _resolve(monkeypatch, "127.0.0.1")
        outbound = Outbound(["crm.intern"])
        answer = await outbound.request(
            "POST", f"http://CRM.intern:{port}/hook?x=1", headers={}, body=b"hello", timeout_s=5, max_bytes=10
        )
        assert answer.status == 200 and asked == ["crm.intern"]
        (got,) = receiver.got
        assert (got.path, got.headers["host"], got.body) == ("/hook?x=1", f"crm.intern:{port}", "hello")


async def test_an_allowed_network_lets_its_addresses_through_and_no_others() -> None:
    outbound = Outbound(["127.0.0.0/8"])
    await outbound.check("http://127.0.0.1:9/")
    with pytest.raises(UrlNotAllowed):
        await outbound.check("http://10.0.0.1/")


async def test_a_redirect_is_never_followed() -> None:
    async with receiving(lambda: 302) as receiver, receiving() as inner:
        receiver.headers = f"Location: {inner.url}\r\n"
        answer = await Outbound(["127.0.0.1"]).request("POST", receiver.url, headers={}, timeout_s=5, max_bytes=10)
        assert answer.status == 302 and inner.got == []


async def test_an_endless_answer_is_cut_off() -> None:
    async with receiving() as receiver:
        receiver.body = b"x" * 100_000
        with pytest.raises(Unreachable, match="more than 1000 bytes"):
            await Outbound(["127.0.0.1"]).request("GET", receiver.url, headers={}, timeout_s=5, max_bytes=1000)


async def test_a_receiver_that_never_answers_is_left_in_time() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        with pytest.raises(Unreachable, match="No answer came"):
            await Outbound(["127.0.0.1"]).request(
                "GET", f"http://127.0.0.1:{port}/", headers={}, timeout_s=0.3, max_bytes=10
            )
    finally:
        server.close()


async def test_who_does_not_listen_is_named_in_plain_words() -> None:
    with pytest.raises(Unreachable, match="does not take connections"):
        await Outbound(["127.0.0.1"]).request("GET", "http://127.0.0.1:9/", headers={}, timeout_s=5, max_bytes=10)


def _resolve(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Every name has these addresses from now on; answers the names that were asked for."""
    asked: list[str] = []

    async def getaddrinfo(self: object, host: str, port: int, **_: object) -> list[object]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return asked
