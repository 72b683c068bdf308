"""What every service needs of its machine: runtimes, open files, and a disk with room that is quick enough."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from services.common.doctor.check import Check
from services.common.doctor.settings import Settings
from services.common.serving.cores import cpu_threads

_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-ep-openvino", "tensorrt-cu13", "bullmq", "chromadb")
_LEAST_FILES, _GOOD_FILES = 1024, 4096  # a long poll, an event stream and a model call are a descriptor each
_LEAST_FREE, _GOOD_FREE = 1 << 30, 10 << 30  # bytes; one claim may have 100 MB of photos
_GOOD_WRITE = 20e6  # bytes a second
_GOOD_FSYNC_S = 0.05  # a claim takes some ten commits


def runtimes() -> Iterator[Check]:
    versions = [f"Python {platform.python_version()}", f"{cpu_threads()} cores"]
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    both = {"onnxruntime", "onnxruntime-gpu"} <= {version.partition(" ")[0] for version in versions}
    fix = "pip uninstall onnxruntime, then pip install --force-reinstall --no-deps onnxruntime-gpu: they share files."
    yield Check("runtimes", "warn" if both else "ok", ", ".join(versions), fix if both else "")


def open_files() -> Iterator[Check]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"{soft} (at most {hard})"
    fix = "ulimit -n 65536 before the start; LimitNOFILE= in systemd; ulimits: in compose."
    if soft < _LEAST_FILES:
        yield Check("open files", "fail", found, fix)
    elif soft < _GOOD_FILES:
        yield Check("open files", "warn", f"{found}: few for many clients that wait at once", fix)
    else:
        yield Check("open files", "ok", found)


def disk(settings: Settings) -> Iterator[Check]:
    """The folder of records and photos, and those of TensorRT's engines."""
    told = {"data", "gateway_data"} & settings.model_fields_set
    folder = settings.folder.absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if os.access(there, os.W_OK | os.X_OK):
        yield _room(there)
        yield _speed(there)
    elif told:
        yield Check("disk", "fail", f"{there} cannot be written", "chown it to 10001 (containers), or name another.")
    else:
        yield Check("disk", "off", f"{there} cannot be written; nothing is kept here unless CLAIMSIGHT_DATA says so")
    for engines in {settings.segmenter_engines, settings.classifier_engines} - {None}:
        if engines is not None and not os.access(engines, os.W_OK | os.X_OK):
            fix = "Make the folder and let user 10001 write it: without it every start builds engines for minutes."
            yield Check("engines", "fail", f"{engines} cannot be written", fix)


def _room(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e9:.1f} GB free at {folder}"
    fix = "Make room, or move the data folder; CLAIMSIGHT_GATEWAY_RETENTION_DAYS erases old claims by itself."
    if free < _LEAST_FREE:
        return Check("disk space", "fail", found, fix)
    return Check("disk space", "warn" if free < _GOOD_FREE else "ok", found, fix if free < _GOOD_FREE else "")


def _speed(folder: Path) -> Check:
    """32 MiB in one go, and twenty small commits, each waited for until the disk has it."""
    block = os.urandom(1 << 20)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            started = time.perf_counter()
            for _ in range(32):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            rate = 32 * len(block) / (time.perf_counter() - started)
            commits = []
            for _ in range(20):
                started = time.perf_counter()
                file.write(block[:4096])
                file.flush()
                os.fsync(file.fileno())
                commits.append(time.perf_counter() - started)
    except OSError as error:
        return Check("disk speed", "fail", f"{folder} cannot be written: {error.strerror}", "Make room.")
    commit = statistics.median(commits)
    found = f"{rate / 1e6:.0f} MB/s, a commit takes {commit * 1000:.1f} ms"
    if rate < _GOOD_WRITE or commit > _GOOD_FSYNC_S:
        fix = f"Use a local SSD: below {_GOOD_WRITE / 1e6:.0f} MB/s or above {_GOOD_FSYNC_S * 1000:.0f} ms claims wait."
        return Check("disk speed", "warn", found, fix)
    return Check("disk speed", "ok", found)
