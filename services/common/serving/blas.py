"""One thread for NumPy's matrix products.

OpenBLAS shares even small products out among all cores, and its threads then spin, waiting for more. Those of a photo
are many and small: the spinning took as much processor time as the whole rest of a claim, and a core from the graph.
"""

from __future__ import annotations

import numpy as np
from threadpoolctl import ThreadpoolController

assert np.__version__  # only a BLAS that is loaded already can be bound


def bound() -> bool:
    """Bound this process's OpenBLAS. False where NumPy multiplies with something else."""
    found = ThreadpoolController().select(internal_api="openblas")
    found.limit(limits=1)
    return len(found) > 0
