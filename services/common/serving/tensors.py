"""Arrays between services: safetensors bytes, checked against what the receiver expects before anything uses them.

The format (https://github.com/huggingface/safetensors) is a JSON header and raw numbers: it cannot hold code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from services.common.serving.errors import InvalidRequest

MEDIA_TYPE = "application/vnd.safetensors"

Tensors = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Spec:
    """What one array must look like; None in `shape` allows any size of at least 1."""

    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join('any' if size is None else str(size) for size in self.shape)}]"

    def fits(self, array: NDArray[np.generic]) -> bool:
        return (
            array.dtype == self.dtype
            and array.ndim == len(self.shape)
            and all(
                have == want or (want is None and have > 0) for have, want in zip(array.shape, self.shape, strict=True)
            )
        )


def dump(tensors: Mapping[str, NDArray[np.generic]], metadata: Mapping[str, str] | None = None) -> bytes:
    """Safetensors bytes of `tensors`; views are made contiguous first, because the format stores plain memory."""
    plain = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    return safetensors.numpy.save(plain, dict(metadata) if metadata else None)


def load(data: bytes, specs: Mapping[str, Spec]) -> Tensors:
    """Exactly the arrays that `specs` names. Raises InvalidRequest saying which one is not as expected.

    No array can be larger than `data`, and the app's body limit caps that.
    """
    try:
        found: Tensors = safetensors.numpy.load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise InvalidRequest(f"The body must be safetensors with {_listing(specs)}; it could not be read.") from error
    if found.keys() != specs.keys():
        raise InvalidRequest(f"The body must hold exactly {_listing(specs)}.")
    for name, spec in specs.items():
        if not spec.fits(found[name]):
            array = found[name]
            raise InvalidRequest(f"{name} must be {spec}; it is {array.dtype}{list(array.shape)}.")
    return found


def request_body(content: str) -> dict[str, object]:
    """OpenAPI's description of a request whose body is safetensors with `content`."""
    return {"requestBody": {"required": True, **answer(content)}}


def answer(content: str) -> dict[str, object]:
    """OpenAPI's description of safetensors with `content`."""
    schema = {"type": "string", "format": "binary"}
    return {"description": f"safetensors with {content}", "content": {MEDIA_TYPE: {"schema": schema}}}


def metadata(data: bytes) -> dict[str, str]:
    """The string pairs that `dump` was given. `data` must have passed `load`."""
    size = int.from_bytes(data[:8], "little")
    pairs: dict[str, str] = json.loads(data[8 : 8 + size]).get("__metadata__", {})
    return pairs


def _listing(specs: Mapping[str, Spec]) -> str:
    return ", ".join(f"{name}: {spec}" for name, spec in specs.items())
