"""Promises of the bounded BLAS."""

from __future__ import annotations

import os
import subprocess
import sys

_THREADS = """
from threadpoolctl import ThreadpoolController
from services.common.serving import blas
def threads():
    return [pool["num_threads"] for pool in ThreadpoolController().select(internal_api="openblas").info()]
before = threads()
assert blas.bound() == bool(before)
print(before, threads())
"""


def test_products_have_one_thread() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    ran = subprocess.run([sys.executable, "-c", _THREADS], capture_output=True, text=True, check=True, env=environment)
    assert ran.stdout.strip() in ("[2] [1]", "[] []")
