"""Photos out of a tar or zip that a client has sent. Nothing is extracted to a disk: names are keys, never paths.

Photos hardly shrink, so an archive that grows to more than twice its size while it is read is no archive of photos, and
that one rule stops every kind of decompression bomb, nested and overlapping members included.
"""

from __future__ import annotations

import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from services.common.serving.errors import InvalidRequest, PayloadTooLarge, Problem, Unprocessable, UnsupportedMediaType

_MOST_NAME = 300  # characters
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_CENTRAL = b"PK\x01\x02"  # begins each member's entry in a zip's directory: APPNOTE.TXT, section 4.3.12
_BLOCK = 512  # bytes of a tar's header and of each of the two zero blocks that end it: POSIX pax, "ustar"
_GROWTH, _SLACK = 2, 1024 * 1024
_WINDOW = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an archive; `data` is None where it is larger than a photo may be."""

    name: str
    size: int
    data: bytes | None


def entries(file: IO[bytes], *, max_entries: int, max_photo_bytes: int) -> Iterator[Entry]:
    """The archive's files, one at a time; folders and what macOS and editors hide in them are left out.

    Raises UnsupportedMediaType (neither tar nor zip), Unprocessable (a link, a device, a path that leads outside,
    encryption), PayloadTooLarge (too many files, or it grows too much) and InvalidRequest (broken or cut off).
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(_BLOCK)
    file.seek(0)
    if head.startswith(b"PK\x03\x04"):
        found = _zipped(file, max_entries, max_photo_bytes)
    elif head[257:262] == b"ustar":
        found = _tarred(file, max_entries, max_photo_bytes)
    else:
        raise UnsupportedMediaType("Send photos in a tar or a zip, for example: tar cf part.tar photos/")
    room = _GROWTH * size + _SLACK
    for number, entry in enumerate(found, start=1):
        if number > max_entries:
            raise _too_many(max_entries)
        room -= entry.size
        if room < 0:
            raise PayloadTooLarge(
                "The archive grows to more than twice its size. Send photos as they are, uncompressed."
            )
        yield entry


def photo_name(text: str) -> str | None:
    """The name under which a manifest finds a file: relative, with `/`; None for what no manifest means.

    Raises Unprocessable for a name that would lead out of a folder.
    """
    name = text.replace("\\", "/").removeprefix("./")
    steps = name.split("/")
    if name.startswith("/") or ".." in steps or re.match(r"[A-Za-z]:", name) or _UNPRINTABLE.search(name):
        raise Unprocessable(f"The archive has a file named {text[:100]!r}. Names must be relative and printable.")
    if len(name) > _MOST_NAME:
        raise Unprocessable(f"A file's name in the archive takes at most {_MOST_NAME} characters.")
    hidden = "__MACOSX" in steps or steps[-1].startswith(".")
    return None if hidden or not steps[-1] else name


def _tarred(file: IO[bytes], max_entries: int, max_photo_bytes: int) -> Iterator[Entry]:
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for seen, member in enumerate(archive, start=1):
                if seen > 2 * max_entries:  # folders have headers of their own, and tarfile remembers every one
                    raise _too_many(max_entries)
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise _not_plain(member.name)
                name = photo_name(member.name)
                if name is None:
                    continue
                data = None
                if member.size <= max_photo_bytes:
                    opened = archive.extractfile(member)
                    data = opened.read() if opened else b""
                yield Entry(name, member.size, data)
            end = archive.offset
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise _broken() from error
    file.seek(end)  # where reading ended there must be the end: tarfile takes a broken header for one, too
    if file.read(_BLOCK).strip(b"\0") or file.tell() != end + _BLOCK:
        raise _broken()


def _zipped(file: IO[bytes], max_entries: int, max_photo_bytes: int) -> Iterator[Entry]:
    # zipfile makes an object of every directory entry as it opens: they are counted before.
    if _occurrences(file, _CENTRAL) > 2 * max_entries:  # folders have entries of their own
        raise _too_many(max_entries)
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                mode = member.external_attr >> 16
                if member.is_dir():
                    continue
                if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                    raise _not_plain(member.filename)
                if member.flag_bits & 0x1:
                    raise Unprocessable("The archive is encrypted. Send it without a password.")
                name = photo_name(member.filename)
                if name is None:
                    continue
                data = None
                if member.file_size <= max_photo_bytes:
                    with archive.open(member) as opened:
                        data = opened.read(max_photo_bytes + 1)
                yield Entry(name, member.file_size if data is None else len(data), data)
    except Problem:
        raise
    except Exception as error:  # zipfile meets arbitrary bytes and lets zlib's, struct's and others' errors through
        raise _broken() from error


def _occurrences(file: IO[bytes], signature: bytes) -> int:
    found, tail = 0, b""
    while chunk := file.read(_WINDOW):
        found += (tail + chunk).count(signature)
        tail = chunk[-(len(signature) - 1) :]
    file.seek(0)
    return found


def _too_many(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"An archive takes {limit} photos. Send the others as another part.")


def _not_plain(name: str) -> Unprocessable:
    return Unprocessable(f"{name[:100]!r} in the archive is a link or a device. Send plain files only.")


def _broken() -> InvalidRequest:
    return InvalidRequest("The archive is broken or cut off. Make it again and send this part again.")
