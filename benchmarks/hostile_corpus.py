"""Uploads that mean harm, made from a seed: bombs, truncations, polyglots, lies about lengths, storms of fields."""

from __future__ import annotations

import io
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from PIL import Image

_BOUNDARY = b"hostile"
_PATHS = ("/v1/claims", "/v1/photos:check", "/v1/damage:analyze", "/v1/similar")


@dataclass(frozen=True, slots=True)
class Hostile:
    """One connection's bytes. `cut` closes it after them without waiting; `pause_s` passes between its pieces."""

    kind: str
    pieces: list[bytes]
    cut: bool = False
    pause_s: float = 0.0


def uploads(seed: int, count: int, batch: str) -> Iterator[Hostile]:
    """`count` uploads of every kind in turn; `batch`: the address of an open batch, for archives."""
    dice = random.Random(seed)
    for number in range(count):
        yield _KINDS[number % len(_KINDS)](dice, batch)


def _truncated(dice: random.Random, batch: str) -> Hostile:
    photo = _photo(dice)
    return _form("truncated photo", dice, photo[: dice.randrange(len(photo))])


def _mangled(dice: random.Random, batch: str) -> Hostile:
    photo = bytearray(_photo(dice))
    for _ in range(dice.randrange(1, 40)):
        photo[dice.randrange(len(photo))] = dice.randrange(256)
    return _form("mangled photo", dice, bytes(photo))


def _bomb(dice: random.Random, batch: str) -> Hostile:
    side = dice.choice([7_000, 13_000, 40_000, 2**31 - 1])
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = _zeros(dice.choice([1_000, 20_000_000]))
    png = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")
    return _form("decompression bomb", dice, png)


def _stated_size(dice: random.Random, batch: str) -> Hostile:
    """A JPEG whose header states another size than its scans have."""
    photo = bytearray(_photo(dice, "JPEG"))
    frame = photo.find(b"\xff\xc0")
    photo[frame + 5 : frame + 9] = struct.pack(">HH", dice.randrange(65_536), dice.randrange(65_536))
    return _form("lying size", dice, bytes(photo))


def _polyglot(dice: random.Random, batch: str) -> Hostile:
    tail = dice.choice([b"<script>alert(1)</script>", b"PK\x03\x04" + b"\0" * 50, b"%PDF-1.7", b"MZ", b"\x7fELF"])
    photo = _photo(dice)
    return _form("polyglot", dice, dice.choice([photo + tail * 50, tail + photo, photo[:3] + tail + photo[3:]]))


def _metadata(dice: random.Random, batch: str) -> Hostile:
    """As much EXIF or ICC as 64-KiB segments hold, in a JPEG; a text chunk that grows a thousandfold, in a PNG."""
    if dice.random() < 0.3:
        text = _zeros(10_000_000)
        photo = _photo(dice, "PNG")
        return _form("huge text", dice, photo[:33] + _chunk(b"zTXt", b"k\0\0" + text) + photo[33:])
    photo = _photo(dice, "JPEG")
    head = dice.choice([b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"ICC_PROFILE\0\x01\xff"])
    body = head + dice.randbytes(65_000 - len(head))
    segment = (b"\xff\xe1" if head[0] == 0x45 else b"\xff\xe2") + struct.pack(">H", len(body) + 2) + body
    return _form("huge metadata", dice, photo[:2] + segment * dice.randrange(1, 40) + photo[2:])


def _chunked_lie(dice: random.Random, batch: str) -> Hostile:
    lie = dice.choice([b"ffffffffffffffff\r\nx", b"-1\r\n\r\n", b"5\r\nab\r\n", b"zz\r\nab\r\n", b"10\r\nab", b"0\r\n"])
    return Hostile("chunked lie", [_head(dice.choice(_PATHS), _kind(), b"Transfer-Encoding: chunked"), lie], cut=True)


def _length_lie(dice: random.Random, batch: str) -> Hostile:
    length = dice.choice([b"99999999999999999999", b"-5", b"1e9", b"104857600", b"3", b"0"])
    body = _multipart([("photos", _photo(dice))])
    head = _head(dice.choice(_PATHS), _kind(), b"Content-Length: " + length)
    return Hostile("lying length", [head, body], cut=True)


def _smuggled(dice: random.Random, batch: str) -> Hostile:
    head = _head("/v1/claims", _kind(), b"Content-Length: 4", b"Transfer-Encoding: chunked")
    return Hostile(
        "length and chunks", [head, b"0\r\n\r\nGET /v1/claims HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"], cut=True
    )


def _slow(dice: random.Random, batch: str) -> Hostile:
    body = _multipart([("photos", _photo(dice))])
    head = _head(dice.choice(_PATHS), _kind(), b"Content-Length: %d" % len(body))
    pieces = (
        [head[: dice.randrange(len(head))]] if dice.random() < 0.5 else [head, *(body[n : n + 1] for n in range(5))]
    )
    return Hostile("slowloris", pieces, cut=True, pause_s=0.05)


def _names(dice: random.Random, batch: str) -> Hostile:
    name = dice.choice(
        ["../../etc/passwd", "..\\..\\a.jpg", "\0.jpg", "a" * 10_000, 'x"; name="y', "/etc/shadow", "CON"]
    )
    return _form("traversal name", dice, _photo(dice), file_name=name.encode())


def _storm(dice: random.Random, batch: str) -> Hostile:
    kind = dice.randrange(4)
    if kind == 0:
        fields = [("photos", b"")] * dice.randrange(20, 3_000)
    elif kind == 1:
        fields = [(f"field{n}", b"x") for n in range(2_000)]
    elif kind == 2:
        fields = [("metadata", b"[" * 15_000)]
    else:
        fields = [("metadata", b'{"a":' * 2_000), ("external_ref", dice.randbytes(300)), ("photos", b"x")]
    return _posted("multipart storm", dice.choice(_PATHS), _multipart(fields))


def _boundaries(dice: random.Random, batch: str) -> Hostile:
    body = dice.choice(
        [b"--hostile" * 5_000, b"--hostile\r\n" * 5_000, b"\r\n" * 50_000, b"--hostile--", b"", dice.randbytes(5_000)]
    )
    head = b"--hostile\r\n" + b"X" * 200_000 + b": y\r\n\r\n"
    return _posted("broken multipart", dice.choice(_PATHS), dice.choice([body, head]))


def _archive(dice: random.Random, batch: str) -> Hostile:
    made = dice.choice([_tar, _zip, _zip_bomb, _cut_tar])(dice)
    head = _head(
        f"{batch}/parts/{dice.randrange(1, 5)}", b"application/x-tar", b"Content-Length: %d" % len(made), put=True
    )
    return Hostile("hostile archive", [head, made])


def _manifest(dice: random.Random, batch: str) -> Hostile:
    body = dice.choice(
        [b"{" * 60_000, b"\n" * 100_000, b'{"id":"a","photos":["b"]}\n' * 2_000, dice.randbytes(9_000), b"null\n1\n"]
    )
    head = _head(f"{batch}/manifest", b"application/jsonl", b"Content-Length: %d" % len(body), put=True)
    return Hostile("hostile manifest", [head, body])


_KINDS: list[Callable[[random.Random, str], Hostile]] = [
    _truncated, _mangled, _bomb, _stated_size, _polyglot, _metadata, _chunked_lie, _length_lie, _smuggled, _slow,
    _names, _storm, _boundaries, _archive, _manifest,
]  # fmt: skip


def _tar(dice: random.Random) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for _ in range(dice.randrange(1, 5)):
            member = tarfile.TarInfo(dice.choice(["../up.jpg", "/root.jpg", "ok.jpg", "a/../../b.jpg", "n" * 5_000]))
            member.type = dice.choice(
                [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
            )
            member.linkname = "/etc/passwd"
            archive.addfile(member)
    return made.getvalue()


def _cut_tar(dice: random.Random) -> bytes:
    whole = bytearray(_tar(dice))
    whole[dice.randrange(len(whole))] ^= 0xFF
    return bytes(whole[: dice.randrange(1, len(whole))])


def _zip(dice: random.Random) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(dice.choice(["../../up.jpg", "C:\\a.jpg", "ok.jpg", "\x01.jpg"]), b"x")
    whole = bytearray(made.getvalue())
    for _ in range(dice.randrange(5)):
        whole[dice.randrange(4, len(whole))] = dice.randrange(256)
    return bytes(whole)


def _zip_bomb(dice: random.Random) -> bytes:
    return _bombs(dice.randrange(1, 4))


@cache
def _bombs(files: int) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for n in range(files):
            archive.writestr(f"{n}.jpg", b"\0" * 15_000_000)
    return made.getvalue()


@cache
def _zeros(count: int) -> bytes:
    return zlib.compress(bytes(count), 9)


def _form(kind: str, dice: random.Random, photo: bytes, file_name: bytes = b"a.jpg") -> Hostile:
    return _posted(kind, dice.choice(_PATHS), _multipart([("photos", photo)], file_name))


def _posted(kind: str, path: str, body: bytes) -> Hostile:
    return Hostile(kind, [_head(path, _kind(), b"Content-Length: %d" % len(body)), body])


def _multipart(fields: list[tuple[str, bytes]], file_name: bytes = b"a.jpg") -> bytes:
    parts = [
        b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n\r\n%s\r\n'
        % (_BOUNDARY, name.encode(), file_name, data)
        for name, data in fields
    ]
    return b"".join(parts) + b"--%s--\r\n" % _BOUNDARY


def _kind() -> bytes:
    return b"multipart/form-data; boundary=" + _BOUNDARY


def _head(path: str, kind: bytes, *more: bytes, put: bool = False) -> bytes:
    first = b"%s %s HTTP/1.1" % (b"PUT" if put else b"POST", path.encode())
    lines = [first, b"Host: 127.0.0.1", b"Connection: close", b"Content-Type: " + kind, *more]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _photo(dice: random.Random, kind: str | None = None) -> bytes:
    data = io.BytesIO()
    Image.effect_noise((dice.randrange(16, 200), dice.randrange(16, 200)), 60).convert("RGB").save(
        data, kind or dice.choice(["JPEG", "PNG", "WEBP"])
    )
    return data.getvalue()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
