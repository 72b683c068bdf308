"""HEIC in a process of its own: its decoder is native code that malformed files crash, and only a child may die of it.

Seen with pi-heif 1.4.0 and libheif 1.23: one byte above 127 in the name of an item's type is a segmentation fault while
the header is read. The child costs a tenth of a second beside the second that twelve megapixels of HEVC take anyway.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

_CHILD = Path(__file__).with_name("heic_child.py")
_TIME_LIMIT_S = 30  # fifty megapixels take five
_SIZE = re.compile(rb"ispe\0{4}(.{4})(.{4})", re.DOTALL)


def stated_size(data: bytes) -> tuple[int, int]:
    """(width, height) of the largest picture that the file's header states: the whole, not its tiles or thumbnail.

    Read without the native decoder from the image spatial extents in the `meta` box (ISO/IEC 23008-12, 6.5.3); the
    picture as decoded may be turned or cropped. ValueError where there are none.
    """
    at = 0
    while at + 8 <= len(data):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if length == 1:  # ISO/IEC 14496-12, 4.2: a 64-bit length follows; 0 means up to the end
            length = int.from_bytes(data[at + 8 : at + 16], "big")
        end = at + max(length, 8) if length else len(data)
        if name == b"meta":
            sizes = [(int.from_bytes(w, "big"), int.from_bytes(h, "big")) for w, h in _SIZE.findall(data, at, end)]
            return max(sizes, key=lambda size: size[0] * size[1])
        at = end
    raise ValueError("the HEIC file has no header")


def decode(data: bytes, max_pixels: int) -> tuple[Image.Image, bytes]:
    """The primary picture, turned as the container says, and its EXIF block, whose orientation is reset to 1.

    ValueError where the decoder refuses the file, dies of it, takes too long or finds more than `max_pixels`.
    """
    command = [sys.executable, "-P", str(_CHILD), str(max_pixels)]
    try:
        child = subprocess.run(command, input=data, capture_output=True, timeout=_TIME_LIMIT_S, check=True)
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ValueError(f"the HEIC decoder ended with status {error.returncode}: {last}") from None
    except subprocess.TimeoutExpired:
        raise ValueError(f"the HEIC decoder took longer than {_TIME_LIMIT_S} s") from None
    header, _, rest = child.stdout.partition(b"\n")
    found = json.loads(header)
    pixels = memoryview(rest)[found["exif"] :]
    image = Image.frombytes(found["mode"], found["size"], pixels, "raw", found["mode"], found["stride"])
    return image, rest[: found["exif"]]
