"""Arrays arrive as they were sent, and nothing else gets through."""

from __future__ import annotations

import contextlib
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.serving import tensors
from services.common.serving.errors import InvalidRequest
from services.common.serving.tensors import Spec, Tensors

PHOTO = {"photo": Spec("uint8", (None, None, 3))}


def test_arrays_come_back_equal() -> None:
    arrays: Tensors = {"a": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.ones((2, 1), np.uint8)}
    specs = {"a": Spec("float32", (3, 4)), "b": Spec("uint8", (None, None))}
    back = tensors.load(tensors.dump(arrays, {"model": "x"}), specs)
    assert all((back[name] == array).all() and back[name].dtype == array.dtype for name, array in arrays.items())


def test_views_keep_their_meaning() -> None:
    photo = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    flipped = photo[::-1, ::2]
    assert (tensors.load(tensors.dump({"photo": flipped}), PHOTO)["photo"] == flipped).all()


def test_metadata_comes_back() -> None:
    data = tensors.dump({"photo": np.zeros((1, 1, 3), np.uint8)}, {"model": '{"name": "ü"}'})
    assert tensors.metadata(data) == {"model": '{"name": "ü"}'}
    assert tensors.metadata(tensors.dump({"photo": np.zeros((1, 1, 3), np.uint8)})) == {}


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"photo": np.zeros((2, 2, 4), np.uint8)}, r"uint8\[any, any, 3\]"),
        ({"photo": np.zeros((2, 2), np.uint8)}, r"uint8\[2, 2\]"),
        ({"photo": np.zeros((2, 2, 3), np.float32)}, "float32"),
        ({"photo": np.zeros((0, 2, 3), np.uint8)}, r"\[0, 2, 3\]"),
        ({"picture": np.zeros((2, 2, 3), np.uint8)}, "exactly photo"),
        ({"photo": np.zeros((2, 2, 3), np.uint8), "more": np.zeros(1, np.uint8)}, "exactly photo"),
    ],
)
def test_arrays_that_do_not_fit_are_named(arrays: Tensors, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        tensors.load(tensors.dump(arrays), PHOTO)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 8,
        b"\xff" * 100,
        (2**63).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        pickle.dumps({"photo": [1]}),
    ],
)
def test_what_is_no_safetensors_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        tensors.load(data, PHOTO)


def _with_header(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + b"\x00" * 12


@pytest.mark.parametrize(
    "header",
    [
        b'{"photo":{"dtype":"U8","shape":[2,2,3],"data_offsets":[0,999999999]}}',
        b'{"photo":{"dtype":"U8","shape":[999999,999999,3],"data_offsets":[0,12]}}',
        b'{"photo":{"dtype":"BF16","shape":[1,2,3],"data_offsets":[0,12]}}',
        b'{"photo":{"dtype":"F8_E5M2","shape":[2,2,3],"data_offsets":[0,12]}}',
        b'{"photo":{"dtype":"U8","shape":[-2,-2,3],"data_offsets":[0,12]}}',
    ],
)
def test_a_header_that_lies_is_refused(header: bytes) -> None:
    with pytest.raises(InvalidRequest):
        tensors.load(_with_header(header), PHOTO)


@given(st.binary(max_size=200), st.integers(0, 80))
def test_no_bytes_make_it_crash(noise: bytes, at: int) -> None:
    data = tensors.dump({"photo": np.zeros((2, 2, 3), np.uint8)})
    with contextlib.suppress(InvalidRequest):
        tensors.load(data[:at] + noise + data[at + len(noise) :], PHOTO)
