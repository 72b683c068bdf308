"""Fewer heaps for glibc's malloc.

Decoding a photo takes and gives back tens of megabytes, in whatever thread has time for it. glibc keeps up to eight
heaps a core for threads, and each keeps what its largest photo needed: two heaps do the same work in half of the
memory, and it stays where it is (docs/benchmarks.md, hostile uploads).
"""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8  # malloc.h
_HEAPS = 2


def bound() -> bool:
    """Bound the heaps of this process; before its threads start. False where malloc is not glibc's."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(_M_ARENA_MAX, _HEAPS))
