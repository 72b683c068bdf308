"""Pictures to send, and the packs that know what is on them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.packs import COLOURS, painted_photo, write_test_packs

REFLECTION = (30, 30, 220)  # what the test packs take for a fake


def damaged_car(*, dent: bool = True) -> bytes:
    """A JPEG of a grey door with a red dent (unless there is none) and a blue reflection."""
    patches = [(REFLECTION, (0.6, 0.6, 0.8, 0.8))]
    if dent:
        patches.append((COLOURS["dent"], (0.3, 0.3, 0.5, 0.5)))
    return jpeg(painted_photo(*patches, height=480, width=640))


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """uint8 [h, w, 3] as a JPEG file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95)
    return out.getvalue()


def pack_environment(folder: Path) -> Mapping[str, str]:
    """Environment of services that shall serve the test packs, which are written to `folder`."""
    packs = write_test_packs(folder)
    return {
        "CLAIMSIGHT_SEGMENTER_PACK": str(packs["segment"]),
        "CLAIMSIGHT_CLASSIFIER_PACK": str(packs["classify"]),
        "CLAIMSIGHT_RETRIEVAL_PACK": str(packs["memory"]),
        "CLAIMSIGHT_SEGMENTER_PROVIDER": "cpu",
        "CLAIMSIGHT_CLASSIFIER_PROVIDER": "cpu",
    }
