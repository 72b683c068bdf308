"""CropResMoE behind its graph: what goes in and what comes out."""

from __future__ import annotations

from services.common.serving.golden import Contract
from services.common.serving.modelpack import Manifest
from services.common.serving.tensors import Spec

CONTRACT = Contract(input_name="crops", outputs=("logits", "gates", "embedding"))


def crops(manifest: Manifest) -> dict[str, Spec]:
    """The request's arrays: crops of exactly the graph's size. Who cut them has the photo; stretching them here would
    hide that the wrong size was cut."""
    return {"crops": Spec("uint8", (None, manifest.input.height, manifest.input.width, 3))}
