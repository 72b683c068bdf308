"""How many cores this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path


def cpu_threads() -> int:
    """Cores this process may really use: its affinity, cut by the container's quota (cgroup v2).

    ONNX Runtime counts the machine's cores instead, and then fails to pin threads or fights over a small quota.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no cgroup v2 here, or "max": no quota
        pass
    return max(1, cores)
