"""A look into an ONNX file without parsing it for use: does it point to data outside of itself?

External data is a path that the runtime would open: a pack must not have any (CVE-2022-25882, CVE-2024-27318 and
their successors). The serving install has no `onnx` package, and this needs only the nesting of the messages
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

from collections.abc import Iterator

# message -> field number -> message: every way on which a tensor can be reached from the model
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_TENSOR_EXTERNAL_DATA = 13
_TENSOR_DATA_LOCATION = 14
_MAX_DEPTH = 64  # a real graph nests a handful of levels; this one could be made to exhaust the stack


def has_external_data(model: bytes) -> bool:
    """Whether any tensor in `model` lies outside the file. Raises ValueError where this is not a protobuf message."""
    return _external(memoryview(model), "model", 0)


def _external(message: memoryview, kind: str, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    for number, value in _fields(message):
        if kind == "tensor" and (number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_DATA_LOCATION and value)):
            return True
        inner = _MESSAGES[kind].get(number)
        if inner and isinstance(value, memoryview) and _external(value, inner, depth + 1):
            return True
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values in protobuf's wire format; fixed-size numbers are passed over as 0."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        value: int | memoryview = 0
        if wire == 0:
            value, at = _varint(message, at)
        elif wire == 1:
            at += 8
        elif wire == 2:
            size, at = _varint(message, at)
            value = message[at : at + size]
            at += size
        elif wire == 5:
            at += 4
        else:
            raise ValueError(f"wire type {wire} is not used by ONNX")
        if at > len(message):
            raise ValueError("cut off")
        yield number, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for step in range(10):
        if at + step >= len(message):
            raise ValueError("cut off")
        byte = message[at + step]
        value |= (byte & 0x7F) << (7 * step)
        if byte < 0x80:
            return value, at + step + 1
    raise ValueError("a number is too long")
