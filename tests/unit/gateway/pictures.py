"""Photos that tests make themselves."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image, ImageDraw

GREY, RED, BLUE, DARK = (190, 190, 190), (220, 30, 30), (30, 30, 220), (5, 5, 5)


def photo(
    *patches: tuple[int, int, int],
    ground: tuple[int, int, int] = GREY,
    size: tuple[int, int] = (320, 240),
    kind: str = "JPEG",
) -> bytes:
    """A photo in one colour with a patch of each of `patches`, side by side."""
    image = Image.new("RGB", size, ground)
    draw = ImageDraw.Draw(image)
    step = size[0] // (len(patches) + 1)
    for index, colour in enumerate(patches):
        x = step * index + step // 2
        draw.rectangle((x, size[1] // 3, x + step // 2, 2 * size[1] // 3), fill=colour)
    data = io.BytesIO()
    image.save(data, kind)
    return data.getvalue()


def bomb(side: int = 13_000) -> bytes:
    """A valid PNG of `side` squared black pixels in about 20 kB: one bit a pixel, all rows alike."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = (b"\0" + bytes((side + 7) // 8)) * side
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
