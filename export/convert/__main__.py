"""Add faster graphs to a pack: `python -m export.convert --pack models/albert --data ../data --to fp16 int8`.

INT8 is calibrated on training photos; both are compared with the fp32 graph on validation photos, and a graph that
answers too differently is not written. What they cost on the test photos says `python -m export.convert.compare`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.convert.parity import LIMITS, ParityError, agreement
from export.convert.rows import rows
from export.convert.to_fp16 import to_fp16
from export.convert.to_int8 import to_int8
from export.convert.to_onnx import session
from services.common.serving.contracts import CONTRACTS
from services.common.serving.golden import Golden
from services.common.serving.modelpack import Pack, PackFile, load_pack, write_pack

CALIBRATION_ROWS = 128
PARITY_ROWS = 64


def add(pack: Pack, precision: str, data: Path) -> Pack:
    """The pack with a graph of `precision` ("fp16" or "int8") beside its others. Raises ParityError."""
    manifest, graph = pack.manifest, pack.read("fp32")
    made = to_fp16(graph) if precision == "fp16" else to_int8(graph, rows(manifest, data, "train", CALIBRATION_ROWS))
    found = agreement(manifest, graph, made, rows(manifest, data, "val", PARITY_ROWS))
    print(f"{manifest.name} {precision}: {len(made) / 1e6:.1f} MB, {found}")
    found.must_hold(LIMITS[precision])
    off = off_golden(pack, made)
    # Half as much again: another CPU's kernels round elsewhere. A CPU whose kernels overflow is much further off.
    parity = round(1.5 * off, 3) if 1.5 * off > manifest.parity else None
    entry = PackFile(path="-", sha256="0" * 64, bytes=1, parity=parity)  # write_pack fills in all but the parity
    described = manifest.model_copy(update={"files": {**manifest.files, precision: entry}})
    return write_pack(pack.folder, described, {**{e: pack.read(e) for e in manifest.files}, precision: made})


def off_golden(pack: Pack, graph: bytes) -> float:
    """Relative error of the worst output of `graph` on the pack's golden input, as the service will measure it."""
    runner = session(graph)
    contract = CONTRACTS[pack.manifest.task]

    def run(rows: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        found = runner.run(list(contract.outputs), {contract.input_name: rows})
        return dict(zip(contract.outputs, found, strict=True))

    return max(Golden(pack, contract).errors(run).values())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m export.convert", description="Add faster graphs to a pack.")
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="labelled photos (see docs/models.md)")
    parser.add_argument("--to", nargs="+", choices=sorted(LIMITS), default=sorted(LIMITS))
    args = parser.parse_args()
    pack = load_pack(args.pack)
    for precision in args.to:
        try:
            pack = add(pack, precision, args.data)
        except ParityError as error:
            sys.exit(f"{pack.folder}: {precision}: {error}")


if __name__ == "__main__":
    main()
