"""Run by heic.py as a script: HEIC on standard input; a line of JSON, the EXIF block and raw pixels on standard output.

It imports nothing of ours, so that it starts quickly.
"""

from __future__ import annotations

import json
import resource
import sys

import pi_heif

_MEMORY = 2 << 30  # bytes of address space; fifty megapixels need half of it


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # what nobody asks for here is not parsed
    pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = pi_heif.options.AUX_IMAGES = False
    image = pi_heif.open_heif(sys.stdin.buffer.read(), convert_hdr_to_8bit=True)
    if image.size[0] * image.size[1] > int(sys.argv[1]):
        sys.exit("the picture is larger than its header says")
    pi_heif.set_orientation(image.info)  # libheif has turned the picture: the EXIF must not say so again
    exif = image.info.get("exif") or b""
    pixels = image.data
    header = {"mode": image.mode, "size": image.size, "stride": image.stride, "exif": len(exif)}
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n")
    sys.stdout.buffer.write(exif)
    sys.stdout.buffer.write(pixels)


if __name__ == "__main__":
    main()
