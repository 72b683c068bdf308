"""Promises of the bounded heap."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

# Forty threads at once, each with a block that malloc takes from a heap; then how many heaps glibc has.
_COUNT = """
import ctypes, sys, threading
from services.common.serving import heap
if sys.argv[1] == "bound":
    assert heap.bound()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(40)
def take():
    together.wait()
    libc.malloc(50_000)
    together.wait()
threads = [threading.Thread(target=take) for _ in range(40)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="malloc is not glibc's")
def test_threads_share_two_heaps() -> None:
    def heaps(how: str) -> int:
        ran = subprocess.run([sys.executable, "-c", _COUNT, how], capture_output=True, text=True, check=True)
        return ran.stdout.count("<heap nr=")

    assert heaps("bound") == 2 < heaps("free")
