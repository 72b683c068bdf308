"""Pixels out of the four accepted formats, each by the library that is fastest and strictest with it.

A decoder reads the header when it is made and the pixels only when asked, so that a caller can refuse a photo by its
size before any memory is spent. Pillow's plugin classes are used directly instead of `Image.open`: the list of formats
stays ours, whatever other plugins are registered in the process.
"""

from __future__ import annotations

import io
import re
import warnings
from math import ceil
from typing import Protocol, cast

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from services.common.vision import heic
from services.common.vision.resample import fitted, resize, shrink

# Pillow warns of odd EXIF in words that hold the file's own numbers, and Python remembers every wording for ever.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# Major brands of HEVC still images (ISO/IEC 23008-12 annex B). `mif1` and `msf1` say nothing of the codec: AVIF uses
# them too, so a HEVC brand has to stand among the compatible ones.
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
_NEUTRAL_BRANDS = {b"mif1", b"msf1"}

# A DCT-scaled decode may end up to a tenth below max_side: a 12-MP photo (4032 px) then leaves the decoder at 2016 px
# in 14 ms, where 2520 px and a resize to 2048 take 60 ms.
_SHORT_OF_MAX_SIDE = 0.9

# What libjpeg reports and every viewer forgives, because no pixel is missing; phones write such files.
_HARMLESS = ("extraneous bytes before marker", "unknown JFIF revision", "Unknown Adobe color transform")

# A progressive JPEG has about ten scans. Each costs a pass over all coefficients however few bytes it holds, so
# that a small file could keep a core busy for minutes.
_MAX_SCANS = 100
_MAX_SEGMENTS = 5_000
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)  # neither stuffing nor a restart marker
_SOS, _EOI, _SOI = 0xDA, 0xD9, 0xD8


class Decoder(Protocol):
    """A photo whose header is read. `size` is (width, height) as its pixels come, before any EXIF orientation.

    For HEIC that is the header's word until the pixels are there: the container may turn them or crop them.
    """

    size: tuple[int, int]

    def pixels(self, max_side: int) -> NDArray[np.uint8]:
        """RGB uint8 [h, w, 3] as stored, longer side <= max_side. Broken files raise one of many exceptions."""
        ...

    def exif(self) -> Image.Exif:
        """To be asked after the pixels."""
        ...


def sniff(data: bytes) -> str | None:
    """The format that the magic bytes say: "jpeg", "png", "webp", "heic", or None for everything else."""
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        end = min(int.from_bytes(data[:4], "big"), 256)
        compatible = {data[at : at + 4] for at in range(16, end, 4)}
        if data[8:12] in _HEIC_BRANDS or (data[8:12] in _NEUTRAL_BRANDS and compatible & _HEIC_BRANDS):
            return "heic"
    return None


def decoder(kind: str, data: bytes) -> Decoder:
    """The decoder for a format that `sniff` named; reads the header, which raises where it is broken."""
    if kind == "jpeg":
        return _Jpeg(data)
    if kind == "heic":
        return _Heic(data)
    return _Pillow({"png": PngImageFile, "webp": WebPImageFile}[kind](io.BytesIO(data)))


class _Jpeg:
    """libjpeg-turbo: decodes at a fraction of the size, and strictly (a missing half is an error, not grey)."""

    def __init__(self, data: bytes) -> None:
        # The size comes from the library that will decode: two parsers may be made to disagree.
        height, width, self._colour, _ = simplejpeg.decode_jpeg_header(data, strict=False)
        self.size = (int(width), int(height))
        self._data = data

    def pixels(self, max_side: int) -> NDArray[np.uint8]:
        if _scans(self._data) > _MAX_SCANS:
            raise ValueError(f"the JPEG has more than {_MAX_SCANS} scans")
        try:
            decoded = self._decode(max_side, strict=True)
        except ValueError as error:
            if not any(warning in str(error) for warning in _HARMLESS):
                raise
            decoded = self._decode(max_side, strict=False)
        if max(decoded.shape[:2]) <= max_side:
            return decoded
        width, height = fitted(self.size, max_side)  # of the original: the scaled decode has rounded once already
        return resize(decoded, height, width)

    def _decode(self, max_side: int, *, strict: bool) -> NDArray[np.uint8]:
        share = min(1.0, _SHORT_OF_MAX_SIDE * max_side / max(self.size))
        width, height = (ceil(side * share) for side in self.size)
        inks = self._colour in ("CMYK", "YCCK")
        decoded = simplejpeg.decode_jpeg(
            self._data, "CMYK" if inks else "RGB", min_width=width, min_height=height, strict=strict
        )
        if inks:  # stored inverted (Adobe's convention, which everybody follows): 255 is no ink
            colour, black = decoded[..., :3].astype(np.uint16), decoded[..., 3:]
            decoded = (colour * black // 255).astype(np.uint8)
        return cast(NDArray[np.uint8], decoded)

    def exif(self) -> Image.Exif:
        return JpegImageFile(io.BytesIO(self._data)).getexif()


def _scans(data: bytes) -> int:
    """Number of scans, walking the segments up to the end of the image (phones append video clips behind it)."""
    at, scans = 2, 0
    for _ in range(_MAX_SEGMENTS):
        marker = _MARKER.search(data, at)
        if marker is None or marker[1][0] == _EOI:
            return scans
        at = marker.end()
        if marker[1][0] != _SOI:
            scans += marker[1][0] == _SOS
            at += int.from_bytes(data[at : at + 2], "big")
    raise ValueError(f"the JPEG has more than {_MAX_SEGMENTS} segments")


class _Pillow:
    """PNG and WebP. Of an animation only the first frame is looked at."""

    def __init__(self, image: Image.Image) -> None:
        self.size = image.size
        self._image = image

    def pixels(self, max_side: int) -> NDArray[np.uint8]:
        self._image.load()
        return _rgb(self._image, max_side)

    def exif(self) -> Image.Exif:
        return self._image.getexif()


class _Heic:
    """HEIC, decoded by a child process; of several pictures the primary one."""

    def __init__(self, data: bytes) -> None:
        self.size = heic.stated_size(data)
        self._data, self._exif = data, b""

    def pixels(self, max_side: int) -> NDArray[np.uint8]:
        image, self._exif = heic.decode(self._data, max_pixels=self.size[0] * self.size[1])
        self.size = image.size
        return _rgb(image, max_side)

    def exif(self) -> Image.Exif:
        exif = Image.Exif()
        exif.load(self._exif)
        return exif


def _rgb(image: Image.Image, max_side: int) -> NDArray[np.uint8]:
    """Any mode as RGB, transparency laid on white."""
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = shrink(image.convert("RGBA" if image.has_transparency_data else "RGB"), max_side)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return np.array(image)
