"""The NVIDIA GPU and its driver, as the driver's own tool and the PCI bus tell."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from services.common.doctor.check import Check

_PCI = Path("/sys/bus/pci/devices")
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # vendor, and the class of display controllers
_LEAST_DRIVER = 580  # the first with CUDA 13, which ONNX Runtime 1.31 is built for
_LEAST_COMPUTE = (7, 5)  # CUDA 13 has no kernels for anything older than Turing
_ASKED = "name,driver_version,memory.total,compute_cap"


def examine(*, needed: bool) -> Iterator[Check]:
    """`needed`: a service is told to refuse to start without a GPU."""
    try:
        told = subprocess.run(
            ["nvidia-smi", f"--query-gpu={_ASKED}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        told = None
    if told is not None and told.returncode == 0 and told.stdout.strip():
        for line in told.stdout.strip().splitlines():
            yield _card(*(part.strip() for part in line.split(",")))
    elif plugged():
        yield Check(
            "gpu",
            "fail" if needed else "warn",
            "an NVIDIA GPU is plugged in, and its driver does not answer (nvidia-smi)",
            f"Install driver {_LEAST_DRIVER} or newer; in a container also the NVIDIA Container Toolkit.",
        )
    elif needed:
        yield Check(
            "gpu",
            "fail",
            "there is no NVIDIA GPU, and REQUIRE_GPU is set",
            "Give this host or container a GPU (compose.gpu.yml), or leave CLAIMSIGHT_*_REQUIRE_GPU unset.",
        )
    else:
        yield Check("gpu", "off", "no NVIDIA GPU; models run on the CPU")


def plugged() -> bool:
    """Whether the PCI bus shows an NVIDIA display controller, driver or not."""
    return any(
        _read(device / "vendor") == _NVIDIA and _read(device / "class").startswith(_DISPLAY)
        for device in (_PCI.iterdir() if _PCI.is_dir() else ())
    )


def _card(name: str, driver: str, memory: str, compute: str) -> Check:
    found = f"{name}, {memory}, compute capability {compute}, driver {driver}"
    if int(driver.partition(".")[0]) < _LEAST_DRIVER:
        return Check("gpu", "fail", found, f"Install driver {_LEAST_DRIVER} or newer: older ones have no CUDA 13.")
    if tuple(int(part) for part in compute.split(".")) < _LEAST_COMPUTE:
        return Check("gpu", "fail", found, "CUDA 13 needs compute capability 7.5 (Turing): use another GPU, or none.")
    return Check("gpu", "ok", found)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
