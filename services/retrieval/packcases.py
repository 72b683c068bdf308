"""What a memory pack brings: the training crops as rows, and the frozen crops that guard against bad cases."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray

from services.common.serving import tensors
from services.common.serving.errors import InvalidRequest
from services.common.serving.modelpack import Manifest, Pack, PackError
from services.common.serving.tensors import Spec
from services.common.vision.size import SizeClass
from services.retrieval.rows import Row, to_bytes

UNIT = 1e-2  # how far an embedding's length may be from 1: half precision somewhere on the way costs 1e-3
_SIZES = cast(tuple[SizeClass, ...], get_args(SizeClass))


@dataclass(frozen=True)
class FrozenCrops:
    """Labelled crops that were never in the memory, and the model's calibrated opinion of each."""

    embedding: NDArray[np.float32]  # [m, d], L2-normalised
    probabilities: NDArray[np.float64]  # [m, classes]
    label: NDArray[np.int64]  # [m]


def check_pack(pack: Pack) -> None:
    """Raises PackError where this is no memory pack."""
    if pack.manifest.task != "memory":
        raise PackError(f"{pack.folder}: is a pack for `{pack.manifest.task}`; retrieval needs one for `memory`.")
    if not pack.manifest.backbone:
        raise PackError(f"{pack.folder}: names no backbone, so nobody can know whose embeddings these are.")


def identity(manifest: Manifest) -> str:
    """SHA-256 over everything that makes the rows: the file, and what the manifest says its numbers mean."""
    meaning = [manifest.name, manifest.version, manifest.files["memory"].sha256, manifest.backbone, manifest.names_hash]
    return hashlib.sha256(json.dumps(meaning).encode()).hexdigest()


def rows_of(pack: Pack) -> list[Row]:
    """The cases of a memory pack. Raises PackError when the arrays are not what the manifest promises."""
    manifest = pack.manifest
    arrays = _read(
        pack,
        "memory",
        {
            "embedding": Spec("float16", (None, manifest.embedding_dim)),
            "label": Spec("uint8", (None,)),
            "size": Spec("uint8", (None,)),
            "image": Spec("int32", (None,)),
        },
    )
    embedding, label, size, image = (arrays[name] for name in ("embedding", "label", "size", "image"))
    classes = manifest.vocabulary.classes
    if int(size.max()) >= len(_SIZES):
        raise PackError(f"{pack.folder} (files.memory): a size lies outside of the vocabulary.")
    prefix = f"{manifest.name}-{manifest.version}"
    return [
        Row(
            id=f"{prefix}/{position}",
            embedding=to_bytes(embedding[position]),
            label=classes[int(label[position])],
            source="training",
            backbone=manifest.backbone,
            size=_SIZES[int(size[position])],
            image_group=f"{prefix}/{int(image[position])}",
        )
        for position in range(len(embedding))
    ]


def frozen_crops(pack: Pack) -> FrozenCrops | None:
    """The pack's regression set, if it brings one. Raises PackError."""
    manifest = pack.manifest
    if "regression" not in manifest.files:
        return None
    classes = len(manifest.vocabulary.classes)
    specs = {
        "embedding": Spec("float16", (None, manifest.embedding_dim)),
        "probabilities": Spec("float32", (None, classes)),
        "label": Spec("uint8", (None,)),
    }
    arrays = _read(pack, "regression", specs)
    rows = arrays["embedding"].astype(np.float32)
    p = arrays["probabilities"].astype(np.float64)
    if not np.allclose(p.sum(axis=1), 1, atol=1e-3):
        raise PackError(f"{pack.folder} (files.regression): probabilities of a crop do not add up to 1.")
    unit = np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
    return FrozenCrops(unit, p / p.sum(axis=1, keepdims=True), arrays["label"].astype(np.int64))


def _read(pack: Pack, entry: str, specs: dict[str, Spec]) -> tensors.Tensors:
    """Arrays of equal length, labels in the vocabulary, embeddings of length 1. Raises PackError."""
    where = f"{pack.folder} (files.{entry})"
    try:
        arrays = tensors.load(pack.read(entry), specs)
    except InvalidRequest as error:
        raise PackError(f"{where}: {error.detail}") from error
    if len({len(array) for array in arrays.values()}) != 1:
        raise PackError(f"{where}: the arrays differ in length.")
    if int(arrays["label"].max()) >= len(pack.manifest.vocabulary.classes):
        raise PackError(f"{where}: a label lies outside of the vocabulary.")
    lengths = np.linalg.norm(arrays["embedding"].astype(np.float32), axis=1)
    if not (np.abs(lengths - 1) <= UNIT).all():  # not `any(... > ...)`: NaN must not pass
        raise PackError(f"{where}: an embedding does not have length 1.")
    return arrays
