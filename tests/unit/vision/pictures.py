"""Pictures and hostile files, built by code: every test says with what it is met."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

ORIENTATION, MAKE, GPS_IFD = 0x0112, 0x010F, 0x8825


def quarters(height: int = 64, width: int = 96) -> Pixels:
    """White, blue / red, black: four quarters that no turn or flip maps onto themselves."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = 255
    picture[: height // 2, width // 2 :] = (30, 30, 200)
    picture[height // 2 :, : width // 2] = (200, 30, 30)
    return picture


def smooth(height: int, width: int, seed: int = 0) -> Pixels:
    """A photo-like picture: coarse noise, enlarged."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(picture: Pixels | Image.Image, kind: str, **options: object) -> bytes:
    """The picture as a file of the Pillow format `kind`."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def exif(**tags: object) -> bytes:
    """EXIF bytes with tags by number: exif(**{"271": "Toy"})."""
    block = Image.Exif()
    for tag, value in tags.items():
        block[int(tag)] = value
    return block.tobytes()


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG from zlib-compressed filtered rows, with further chunks between header and pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def bomb(side: int = 13_000) -> bytes:
    """A black PNG of side x side pixels, one bit each: 169 megapixels in 20 KB."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    return png(side, side, 1, 0, b"".join(packer.compress(row) for _ in range(side)) + packer.flush())


def deep_png(value: int, width: int = 8, height: int = 6) -> bytes:
    """RGB of 16 bits per channel, all `value`."""
    row = b"\0" + struct.pack(">H", value) * 3 * width
    return png(width, height, 16, 2, zlib.compress(row * height))


def many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan, 70 bytes and a pass over all coefficients, is repeated `count` times."""
    data = encoded(quarters(), "JPEG", progressive=True)
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:end] + data[last:end] * count + data[end:]


def quarters_jpeg(comments: int) -> bytes:
    """A JPEG with that many empty comments in front of its picture."""
    data = encoded(quarters(), "JPEG")
    return data[:2] + b"\xff\xfe\0\2" * comments + data[2:]


# 16,383 x 16,383 black pixels, lossless: more than Pillow itself would open.
HUGE_WEBP = bytes.fromhex("524946461a000000574542505650384c0e0000002ffebfff0f071011fd0f4444ff03")

# quarters() as HEIC, stored turned: the container says so (irot), and so does the EXIF (orientation 6).
# What a phone held upright writes. The upright picture is 64 wide and 96 high; no HEIC encoder is among our packages.
TURNED_HEIC = base64.b85decode(
    "0000SW^{RQXk}?*00000ZE0pPXk}?*ZE0a<0004@ZDn*}000000000XXk=`10000000000aA{+700000000000000000000G-"
    "+&aV*mgE07O6l0ssL300001#Q*^S00000007AV0ssI200NEx0RR9100000FaQ7mIB98aW&i*H00062000$fZf0cy000000RRAKc4"
    "ILB0000LX>Mj^0ssI300IC2MR;ju000004sdC7Z2$lO00031007`=aB^?}006*gaAR)(004Msc4I>U18@KU0FVFx0000U@BsY%`1"
    "k+-4+CHT0RR|40Sp2E{{wIU00RJ!0009300RIXx&lC90096iLID8-"
    "Z~y=U0FVFx0{{R603M()fd!W8Nhz*w0vZem00093$N&HX00=;000968L;=Baup&SJ000wXZ)|dIV{CW;0RRmE27mwn02FC+aAg1h"
    "000000AK(B06+i$01$9#cxeCt0009B2nYZG010VwZ*&6y000<iaBX1#00000000310R@2q0|bQt000_ka%E-"
    "!00000000hSWOHKx0ssL30RR920c~VqbN~PV#V7%<3E<-k!kSX=AL3pZ$Of1H_bL12e%O2e=|-"
    "1pA;_Y*6bLWTo<B(%0(iuwGIW8ozsM8tf5j*&2P-"
    "Dm@h_7TqKyeLqeR1ThA?DsgA9sqT|~Pw{E&11|K84yf7RZK|9VZ?8xMcLf7bZvrLq)^Mxk#!{QSnyexa)6m+%};X6+F)-"
    "k}|gy8B#xvi+_<i{KCXptSrTz*R<dS!zV7RICxh{b^)s&2TJq$1``0Dxd{Hj@z4lm@FmazyEVQc7Ol?00u>PX=VTbO-"
    "%qQ0000800IFI00IC200dNTc>n<t00RI30096700000000"
)
