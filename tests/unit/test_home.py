"""Nothing that runs here tells anybody outside of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_QUIET = ("CI", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "XDG_CACHE_HOME")  # would hide it


@pytest.mark.parametrize(
    "module", ["services.segmenter.__main__", "services.common.doctor.rungs", "benchmarks.model_cost", "tests.packs"]
)
def test_onnx_runtime_keeps_no_report_about_what_runs(tmp_path: Path, module: str) -> None:
    """It notes a device's id and what it will send in the user's cache folder, as soon as it is imported."""
    environment = {name: value for name, value in os.environ.items() if name not in _QUIET}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    code = f"import {module}, sys; assert 'onnxruntime' in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file() and "icrosoft" in str(path)] == []
