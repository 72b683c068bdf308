"""Where TensorRT keeps its engines: one folder per graph, versions, GPU and batch size, built by one process at a time.

An engine takes minutes to build and fits only what it was built for, so everything that it depends on is in its
folder's name: after an update of anything a new one is built, and an old one is never tried.
"""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import onnxruntime as ort

_TENSORRT = ("tensorrt-cu13-libs", "tensorrt-cu13", "tensorrt-libs", "tensorrt")
_GPUS = Path("/proc/driver/nvidia/gpus")
_DRIVER = Path("/proc/driver/nvidia/version")


def folder_of(root: Path, sha256: str) -> Path:
    """The folder for the graph with this hash on this machine: hash, runtime, TensorRT, driver and GPU."""
    versions = f"ort{ort.__version__}-trt{_tensorrt()}-{_driver()}-{_gpu()}"
    return root / re.sub(r"[^A-Za-z0-9._-]+", "_", f"{sha256[:16]}-{versions}")


@contextmanager
def kept(root: Path, batch: int) -> Iterator[Path]:
    """The folder of one batch size, held by this process: who comes second waits, and then finds the engine built."""
    folder = root / f"batch{batch}"
    folder.mkdir(parents=True, exist_ok=True)
    with (root / f"batch{batch}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def forget(folder: Path) -> bool:
    """Empty the folder; False where there was nothing in it."""
    found = list(folder.iterdir())
    for path in found:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return bool(found)


def _tensorrt() -> str:
    for name in _TENSORRT:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "none"


def _gpu() -> str:
    """The GPU's name as the driver says it; a container sees only the ones it was given."""
    for path in sorted(_GPUS.glob("*/information")):
        if found := re.search(r"^Model:\s*(.+)$", path.read_text(encoding="utf-8"), re.M):
            return found[1]
    return "gpu"


def _driver() -> str:
    try:
        found = re.search(r"Kernel Module\D+([\d.]+)", _DRIVER.read_text(encoding="utf-8"))
    except OSError:
        return "driver"
    return f"driver{found[1]}" if found else "driver"
