"""Reading an upload: multipart/form-data (RFC 7578), streamed, every limit held while reading.

What the client says of a file (its name, its type) is not even looked at. A photo that is too large is read to its
end and dropped: it fails alone. A few photos of usual size stay in memory, more lie in temporary files without a name.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, Protocol

import structlog
from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from services.common.serving.errors import (
    InvalidRequest,
    NotReady,
    PayloadTooLarge,
    Problem,
    TooManyPhotos,
    Unprocessable,
    UnsupportedMediaType,
)

log = structlog.get_logger(__name__)

PHOTOS = ("photos", "photos[]", "photo")  # one meaning, the spellings that form libraries send
TEXTS = ("external_ref", "metadata", "vehicle", "deadline_seconds")
VIEW = "view"
URL = "photo_url"
_MAX_TEXT = 16 * 1024  # bytes of a text field
_MAX_URL = 2_000
_IN_MEMORY = 8 * 1024 * 1024  # bytes of an upload's photos; what comes beyond lies in temporary files
_AT_ONCE = 2 * 1024 * 1024  # bytes that wait to be written together: a thread's turn costs more than writing a chunk


class Hash(Protocol):
    """What hashlib's objects are; it names no public type for them."""

    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


@dataclass(slots=True)
class Received:
    """One photo as it came; `too_large` is set instead of keeping more bytes than allowed.

    Where it came as a `url`, whoever fetches it writes it, or sets the `problem` with it.
    """

    file: tempfile.SpooledTemporaryFile[bytes]
    size: int = 0
    too_large: bool = False
    url: bytes | None = None
    as_file: bool = True  # False: sent as a form's text, which is as welcome where it is a photo
    problem: Problem | None = None
    _digest: Hash = field(default_factory=hashlib.sha256)

    @property
    def sha256(self) -> str:
        """Of the bytes that were kept, counted while they came."""
        return self._digest.hexdigest()

    def write(self, data: bytes, *, to_disk: bool = False) -> None:
        """To a disk: not for the event loop."""
        if to_disk:
            self.file.rollover()
        self.file.write(data)
        self._digest.update(data)

    def read(self) -> bytes:
        """From a disk, where the photo is big: not for the event loop."""
        self.file.seek(0)
        return self.file.read()


@dataclass(slots=True)
class Upload:
    photos: list[Received] = field(default_factory=list)
    texts: dict[str, bytes] = field(default_factory=dict)
    views: list[bytes] = field(default_factory=list)  # the n-th is of the n-th photo


def no_room(error: OSError) -> NotReady:
    """What the sender hears of a full disk; the operator finds the folder in the log."""
    log.error("an upload cannot be kept", folder=tempfile.gettempdir(), why=error.strerror)
    return NotReady("There is no room for uploads now. Send this again a little later.")


def close(file: IO[bytes]) -> None:
    with suppress(OSError):  # what found no room cannot be flushed either
        file.close()


@asynccontextmanager
async def receive(request: Request, *, max_photos: int, max_photo_bytes: int) -> AsyncIterator[Upload]:
    """The upload's photos and texts; the photos' files are gone when the context ends.

    Raises Problem: UnsupportedMediaType, TooManyPhotos, PayloadTooLarge (texts), Unprocessable (fields), InvalidRequest
    (broken multipart).
    """
    async with AsyncExitStack() as files:
        form = _Form(files, max_photos, max_photo_bytes)
        parser = MultipartParser(
            _boundary(request),
            {
                "on_part_begin": form.part_begins,
                "on_header_field": form.header_name,
                "on_header_value": form.header_value,
                "on_header_end": form.header_ends,
                "on_headers_finished": form.part_starts,
                "on_part_data": form.data,
                "on_end": form.end,
            },
        )
        try:
            async for chunk in request.stream():
                parser.write(chunk)
                await form.flush()
        except FormParserError as error:
            raise InvalidRequest("The multipart body is broken; send it with a form library or curl -F") from error
        if not form.complete:
            raise InvalidRequest("The multipart body ends too early. Was the upload cut off? Send it again")
        yield form.upload


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 70:  # RFC 2046, section 5.1.1
        raise UnsupportedMediaType("Send the photos as multipart/form-data, for example: curl -F photos=@car.jpg")
    return boundary


class _Form:
    """What the parser tells, gathered. Its callbacks are synchronous: photo bytes wait in `_pending` for `flush`."""

    def __init__(self, files: AsyncExitStack, max_photos: int, max_photo_bytes: int) -> None:
        self.upload = Upload()
        self.complete = False
        self._files = files
        self._max_photos = max_photos
        self._max_photo_bytes = max_photo_bytes
        self._header = (bytearray(), bytearray())
        self._disposition = ""
        self._photo: Received | None = None
        self._text = ""
        self._view = False
        self._pending: list[tuple[Received, bytes]] = []
        self._waiting = 0  # bytes in `_pending`
        self._in_memory = 0

    def part_begins(self) -> None:
        self._disposition, self._photo, self._text, self._view = "", None, "", False

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def header_ends(self) -> None:
        if self._header[0].lower() == b"content-disposition":
            self._disposition = self._header[1].decode("latin-1")
        self._header = (bytearray(), bytearray())

    def part_starts(self) -> None:
        told = parse_options_header(self._disposition)[1]
        name = told.get(b"name", b"").decode("utf-8", "replace")
        if name in (*PHOTOS, URL):
            if len(self.upload.photos) == self._max_photos:
                raise TooManyPhotos(f"A claim takes {self._max_photos} photos; send the rest as another claim")
            file = tempfile.SpooledTemporaryFile()  # noqa: SIM115 - it lives as long as the upload
            self._files.callback(close, file)
            self._photo = Received(file, url=b"" if name == URL else None, as_file=b"filename" in told)
            self.upload.photos.append(self._photo)
        elif name == VIEW and len(self.upload.views) < self._max_photos:
            self._view = True
            self.upload.views.append(b"")
        elif name in TEXTS and name not in self.upload.texts:
            self._text = name
            self.upload.texts[name] = b""
        else:
            what = "is there too often" if name in (*TEXTS, VIEW) else "is not known"
            raise Unprocessable(
                f"The field {name[:40]!r} {what}. Fields: photos, {URL} and view (many), {', '.join(TEXTS)}"
            )

    def data(self, data: bytes, start: int, end: int) -> None:
        if self._photo is not None and self._photo.url is not None:
            self._photo.url += data[start:end]
            if len(self._photo.url) > _MAX_URL:
                raise PayloadTooLarge(f"The field {URL} takes {_MAX_URL} bytes")
        elif self._photo is not None:
            photo = self._photo
            photo.size += end - start
            photo.too_large = photo.size > self._max_photo_bytes
            if not photo.too_large:
                self._pending.append((photo, data[start:end]))
                self._waiting += end - start
        elif self._text:
            self.upload.texts[self._text] += data[start:end]
            if len(self.upload.texts[self._text]) > _MAX_TEXT:
                raise PayloadTooLarge(f"The field {self._text} takes {_MAX_TEXT} bytes")
        elif self._view:
            self.upload.views[-1] += data[start:end]
            if len(self.upload.views[-1]) > _MAX_TEXT:
                raise PayloadTooLarge(f"The field {VIEW} takes {_MAX_TEXT} bytes")

    def end(self) -> None:
        self.complete = True

    async def flush(self) -> None:
        """Write what has come: to memory at once, to a disk once it is worth a thread's turn."""
        if self._in_memory + self._waiting <= _IN_MEMORY:
            self._in_memory += self._waiting
            self._write()
        elif self._waiting >= _AT_ONCE or self.complete:
            try:
                await asyncio.to_thread(self._write, to_disk=True)
            except OSError as error:
                raise no_room(error) from error

    def _write(self, *, to_disk: bool = False) -> None:
        for photo, data in self._pending:
            photo.write(data, to_disk=to_disk)
        self._pending.clear()
        self._waiting = 0
