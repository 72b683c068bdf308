"""Model packs: `models/<name>/<version>/manifest.json` beside ONNX and safetensors files.

A pack is data, never code: files are named by the manifest, must lie inside the pack folder, must not be links, and
their SHA-256 is checked before anything parses them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.common.serving.onnxfile import has_external_data
from services.common.vision.vocabulary import Vocabulary

MANIFEST = "manifest.json"
_MAX_MANIFEST_BYTES = 4_000_000
_NEEDED = {"segment": ("fp32", "golden"), "classify": ("fp32", "golden"), "memory": ("memory",)}
_GRAPHS = ("fp32", "fp16", "int8")


class PackError(Exception):
    """A pack cannot be used. The message names the file, the entry and what to do."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class PackFile(_Entry):
    path: str  # relative to the manifest
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(gt=0)
    parity: float | None = Field(default=None, gt=0)  # of this graph, where the manifest's is too narrow (int8)


class Metric(_Entry):
    """One measured number: never without n, an interval where one exists, its command and its date."""

    name: str
    value: float
    n: int
    ci95: tuple[float, float] | None = None
    split: str
    command: str
    date: str


class DataSource(_Entry):
    name: str
    photos: int
    rights: str
    url: str = ""


class Input(_Entry):
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    resize: Literal["stretch", "pad"]
    context: float = 0.0  # share of the box's longer side added around a crop


class Manifest(_Entry):
    format: Literal[1] = 1
    name: str
    version: str
    task: Literal["segment", "classify", "memory"]
    created: str
    licence: str
    notes: str = ""
    vocabulary: Vocabulary
    names_hash: str
    supported: dict[str, list[str]]  # damages | fakes | parts | coarse | classes -> names that real photos taught
    input: Input
    backbone: str = ""  # sha256 over backbone weights + preprocessing
    embedding_dim: int = 0
    temperature: float = Field(default=1.0, gt=0)
    thresholds: dict[str, float] = {}
    max_batch: int = Field(default=8, ge=1)
    files: dict[str, PackFile]  # fp32 | fp16 | int8 | golden | memory
    tolerance: float = 1e-3  # largest |difference| to the golden outputs on the CPU provider
    parity: float = 0.05  # largest relative error (norm of the difference over norm) of other providers and precisions
    metrics: list[Metric] = []
    data: list[DataSource] = []


@dataclass(frozen=True)
class Pack:
    """A pack whose manifest and files were verified."""

    folder: Path
    manifest: Manifest

    def read(self, entry: str) -> bytes:
        """The bytes of a file, hashed as they are handed out: what was checked is what gets parsed."""
        file = self.manifest.files.get(entry)
        if file is None:
            raise PackError(f"{self.folder}: has no file `{entry}`; it has {', '.join(sorted(self.manifest.files))}")
        data = _read_inside(self.folder, file.path, entry, limit=file.bytes)
        if len(data) != file.bytes or hashlib.sha256(data).hexdigest() != file.sha256:
            raise PackError(
                f"{self.folder / file.path} (files.{entry}): the content is not what the manifest says. "
                "Fetch the pack again; do not edit its files."
            )
        if entry in _GRAPHS:
            _check_graph(data, f"{self.folder / file.path} (files.{entry})")
        return data


def find_pack(path: Path) -> Path:
    """The version folder that `path` means: itself, or its newest version (`10` is newer than `9`)."""
    if (path / MANIFEST).is_file():
        return path
    there = versions(path)
    if not there:
        raise PackError(
            f"{path.absolute()}: no model pack here (no {MANIFEST}, and no version folder with one). "
            "Put a pack there, or name another folder with --pack or CLAIMSIGHT_..._PACK."
        )
    return path / there[-1]


def versions(folder: Path) -> list[str]:
    """The names of the version folders in it, the newest last."""
    return sorted((found.parent.name for found in folder.glob(f"*/{MANIFEST}")), key=_natural)


def load_pack(path: Path) -> Pack:
    """Verify the pack at `path` (a version folder, or a name folder whose newest version is meant).

    Raises PackError: an unreadable manifest, a vocabulary that is not the one its hash names, unknown names under
    `supported`, missing files, files outside the folder, links, wrong sizes or hashes, ONNX external data.
    """
    folder = find_pack(path)
    pack = Pack(folder, _read_manifest(folder))
    manifest = pack.manifest
    if manifest.vocabulary.names_hash() != manifest.names_hash:
        raise PackError(f"{folder / MANIFEST}: names_hash does not belong to the vocabulary. Export the pack again.")
    _check_supported(manifest, folder)
    for entry in {*_NEEDED[manifest.task], *manifest.files}:
        pack.read(entry)
    return pack


def write_pack(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Pack:
    """Write a version folder: each of `files` (entry -> content), then the manifest with their sizes and hashes.

    `manifest.names_hash` is computed here, and so is `manifest.files` but for a graph's own `parity`. What was written
    is loaded again, so a pack that cannot be served cannot be written either.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries: dict[str, PackFile] = {}
    for entry, data in files.items():
        name = f"{entry}.onnx" if entry in _GRAPHS else f"{entry}.safetensors"
        _replace(folder / name, data)
        parity = manifest.files[entry].parity if entry in manifest.files else None
        digest = hashlib.sha256(data).hexdigest()
        entries[entry] = PackFile(path=name, sha256=digest, bytes=len(data), parity=parity)
    complete = manifest.model_copy(update={"files": entries, "names_hash": manifest.vocabulary.names_hash()})
    _replace(folder / MANIFEST, (complete.model_dump_json(indent=2) + "\n").encode())
    return load_pack(folder)


def _read_manifest(folder: Path) -> Manifest:
    data = _read_inside(folder, MANIFEST, "manifest", limit=_MAX_MANIFEST_BYTES)
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "the whole file"
        raise PackError(f"{folder / MANIFEST}: {place}: {first['msg']}") from error


def _read_inside(folder: Path, name: str, entry: str, *, limit: int) -> bytes:
    """At most `limit` bytes (one more shows an overrun) of a plain file under `folder`, following no link."""
    path = PurePosixPath(name)
    where = f"{folder / name} (files.{entry})"
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise PackError(f"{where}: lies outside the pack. Files of a pack lie inside its folder.")
    if any((folder / Path(*path.parts[: depth + 1])).is_symlink() for depth in range(len(path.parts))):
        raise PackError(f"{where}: is a link. Put the file itself there.")
    try:
        with open(folder / path, "rb", opener=_carefully) as file:
            return file.read(limit + 1)
    except OSError as error:
        raise PackError(f"{where}: cannot be read: {error.strerror}") from error


def _carefully(path: str, flags: int) -> int:
    """Follow no link that was swapped in since, and wait for nobody at the other end of a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _check_graph(data: bytes, where: str) -> None:
    try:
        external = has_external_data(data)
    except ValueError as error:
        raise PackError(f"{where}: is not an ONNX file: {error}") from error
    if external:
        raise PackError(f"{where}: keeps weights outside of itself. Export it as a single file.")


def _check_supported(manifest: Manifest, folder: Path) -> None:
    vocabulary = manifest.vocabulary
    known: dict[str, set[str]] = {
        "damages": {damage.name for damage in vocabulary.damages},
        "fakes": {fake.name for fake in vocabulary.fakes},
        "parts": {part.name for part in vocabulary.parts},
        "coarse": {coarse.name for coarse in vocabulary.coarse},
        "classes": set(vocabulary.classes),
    }
    for group, names in manifest.supported.items():
        if strangers := set(names) - known.get(group, set()):
            raise PackError(f"{folder / MANIFEST}: supported.{group}: not in the vocabulary: {sorted(strangers)}")


def _replace(path: Path, data: bytes) -> None:
    """Write beside, then rename: a reader sees the old file or the new one, never half of one."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(data)
    beside.replace(path)


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [(1, int(run), "") if run.isdigit() else (0, 0, run) for run in re.findall(r"\d+|\D+", name)]
