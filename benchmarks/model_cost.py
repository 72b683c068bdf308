"""One photo to the segmenter as a multiple of one crop to the classifier: `python -m benchmarks.model_cost`.

Both packs run in one process on the plain CPU provider with one thread, in turns; what is counted is CPU time, so that
what else the machine does hits neither.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from services.common.serving.modelpack import Pack, load_pack


def opened(pack: Pack, variant: str) -> tuple[ort.InferenceSession, dict[str, NDArray[np.uint8]]]:
    """A session and one row of noise for it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(pack.read(variant), options, providers=["CPUExecutionProvider"])
    size = pack.manifest.input
    row = np.random.default_rng(0).integers(0, 256, (1, size.height, size.width, 3)).astype(np.uint8)
    return session, {session.get_inputs()[0].name: row}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model_cost", description=__doc__)
    parser.add_argument("--segmenters", type=Path, nargs="+", default=[Path("models/albert")])
    parser.add_argument("--classifier", type=Path, default=Path("models/cropresmoe"))
    parser.add_argument("--rounds", type=int, default=31)
    args = parser.parse_args()
    packs = [load_pack(path) for path in (args.classifier, *args.segmenters)]
    runs = {f"{p.manifest.name} {p.manifest.version}, fp32": opened(p, "fp32") for p in packs}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(args.rounds):
        for name, (session, row) in runs.items():
            started = time.process_time()
            session.run(None, row)
            taken[name].append(1000 * (time.process_time() - started))
    unit = statistics.median(next(iter(taken.values()))[1:])
    print(f"{args.rounds - 1} runs each, batch 1\n| pack | median CPU ms | times the classifier |\n|---|---|---|")
    for name, times in taken.items():
        print(f"| {name} | {statistics.median(times[1:]):.1f} | {statistics.median(times[1:]) / unit:.2f} |")


if __name__ == "__main__":
    main()
