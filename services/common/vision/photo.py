"""Open a photo from outside: bytes in, upright RGB pixels out, or an error that says what to send instead."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.common.vision.decoders import Decoder, decoder, sniff
from services.common.vision.resample import downscale, resize

__all__ = ["ErrorCode", "Photo", "PhotoError", "check_photo", "downscale", "open_photo", "resize", "sniff"]

ErrorCode = Literal["photo-empty", "unsupported-media-type", "photo-undecodable", "photo-too-many-pixels"]

# Exif 2.32, table 4 to 8. What helps to judge a claim and names neither a person nor a place.
_ORIENTATION = 0x0112
_TAGS = {0x010F: "Make", 0x0110: "Model", 0x0131: "Software", _ORIENTATION: "Orientation"}
_EXIF_IFD, _DATE_TIME_ORIGINAL = 0x8769, 0x9003
_EXIF_CHARACTERS = 100  # of a value; the longest camera name is a third of that

# Exif orientation: what has to be done to the stored pixels so that they stand upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PhotoError(ValueError):
    """The photo cannot be used. `code` is the problem type's slug, the message says what to do."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code: ErrorCode = code


@dataclass(frozen=True, eq=False, slots=True)
class Photo:
    """An opened photo. `pixels` may be smaller than the photo; `width` and `height` are the original's, upright."""

    pixels: NDArray[np.uint8]  # [h, w, 3] RGB, upright
    sha256: str  # hex, of the bytes as they came
    format: str  # jpeg | png | webp | heic
    width: int
    height: int
    exif: dict[str, str]  # Make, Model, Software, DateTimeOriginal, Orientation; those that are there


def open_photo(data: bytes, *, max_side: int = 2048, max_pixels: int = 50_000_000) -> Photo:
    """Decode a JPEG, PNG, WebP or HEIC photo once: upright, RGB, longer side at most `max_side` pixels.

    The type is told by the magic bytes alone. A photo of more than `max_pixels` is refused by its header, before any
    pixel is decoded. Of animations the first frame is used, transparency is laid on white. Raises PhotoError.
    """
    kind, opened = _header(data, max_pixels)
    with _readable(kind, max_pixels):
        pixels = opened.pixels(max_side)
    tags = _exif(opened)
    turn = _UPRIGHT.get(int(tags.get("Orientation", "1")))
    width, height = opened.size
    if turn is not None:
        pixels = np.array(Image.fromarray(pixels).transpose(turn))
        if turn in (_UPRIGHT[5], _UPRIGHT[6], _UPRIGHT[7], _UPRIGHT[8]):
            width, height = height, width
    return Photo(pixels, hashlib.sha256(data).hexdigest(), kind, width, height, tags)


def check_photo(data: bytes, *, max_pixels: int = 50_000_000) -> None:
    """Refuse what magic bytes and header alone tell is no usable photo; no pixel is decoded. Raises PhotoError."""
    _header(data, max_pixels)


def _header(data: bytes, max_pixels: int) -> tuple[str, Decoder]:
    """The photo's format and its decoder, which has read the header only."""
    if not data:
        raise PhotoError("photo-empty", "The photo has no bytes. Check that the upload was complete and send it again.")
    kind = sniff(data)
    if kind is None:
        raise PhotoError("unsupported-media-type", "This is no photo we can read. Send JPEG, PNG, WebP or HEIC.")
    with _readable(kind, max_pixels):
        opened = decoder(kind, data)
        _check_size(*opened.size, max_pixels)
    return kind, opened


@contextmanager
def _readable(kind: str, max_pixels: int) -> Iterator[None]:
    """Turn whatever a decoder raises into a PhotoError."""
    try:
        yield
    except (PhotoError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # WebP: Pillow's own cap comes first
        raise _too_many_pixels("more", max_pixels) from None
    except Exception as error:  # decoders answer broken files with a dozen kinds of exception, SyntaxError among them
        name = {"webp": "WebP"}.get(kind, kind.upper())
        message = f"The {name} photo is damaged or cut off. Send the original file again, or another photo."
        raise PhotoError("photo-undecodable", message) from error


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ValueError("the photo has no pixels")
    if width * height > max_pixels:
        raise _too_many_pixels(f"{width} x {height}", max_pixels)


def _too_many_pixels(size: str, max_pixels: int) -> PhotoError:
    limit = f"{max_pixels / 1e6:g} megapixels"
    return PhotoError("photo-too-many-pixels", f"The photo has {size} pixels; {limit} are allowed. Send a smaller one.")


def _exif(opened: Decoder) -> dict[str, str]:
    """The few tags that may be kept. Broken EXIF costs the tags, never the photo."""
    try:
        exif = opened.exif()
        found = {name: exif.get(tag) for tag, name in _TAGS.items()}
        found["DateTimeOriginal"] = exif.get_ifd(_EXIF_IFD).get(_DATE_TIME_ORIGINAL)
    except Exception:  # Pillow's parser meets arbitrary bytes here and raises whatever they lead it to
        return {}
    tags = {name: _printable(value) for name, value in found.items() if isinstance(value, str | int)}
    if tags.get("Orientation", "1") not in set("12345678"):
        del tags["Orientation"]
    return {name: value for name, value in tags.items() if value}


def _printable(value: str | int) -> str:
    return "".join(c for c in str(value)[:_EXIF_CHARACTERS] if c.isprintable()).strip()
