"""CropResMoE behind its graph: what goes in and what comes out."""

from __future__ import annotations

from services.common.serving.contracts import CONTRACTS
from services.common.serving.modelpack import Manifest
from services.common.serving.tensors import Spec

CONTRACT = CONTRACTS["classify"]


def crops(manifest: Manifest) -> dict[str, Spec]:
    """The request's arrays: crops of exactly the graph's size. Who cut them has the photo; stretching them here would
    hide that the wrong size was cut."""
    return {"crops": Spec("uint8", (None, manifest.input.height, manifest.input.width, 3))}
