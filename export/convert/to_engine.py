"""Build TensorRT's engines of a pack ahead of the first start: `python -m export.convert.to_engine --pack models/albert
--engines /engines`.

An engine fits one GPU, driver, TensorRT and batch size, so this runs on the machine that will serve, into the folder
that the service is given (`CLAIMSIGHT_SEGMENTER_ENGINES`). It is the service's own code: what is built here is what is
found there, beside TensorRT's timing cache, which makes the next build quicker.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from services.common.serving import engines
from services.common.serving.contracts import CONTRACTS
from services.common.serving.modelpack import Pack, PackError, load_pack
from services.common.serving.session import Choice, Precision, Session, SessionError, open_pack


def build(pack: Pack, folder: Path, *, precision: Precision | None, max_batch: int, device: int) -> Session:
    """An engine for every batch size up to `max_batch`, proven by the pack's golden outputs and run once.

    Without a `precision`: fp16 where the pack has it. Raises PackError, and SessionError where there is no TensorRT.
    """
    contract = CONTRACTS.get(pack.manifest.task)
    if contract is None:
        raise PackError(f"{pack.folder}: is a pack of {pack.manifest.task}; it has no graph to build an engine of.")
    choice = Choice(
        provider="tensorrt",
        precision=precision or "auto",
        require_gpu=True,
        max_batch=max_batch,
        cache_dir=folder,
        device=device,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task(f"{pack.manifest.name} {pack.manifest.version}: batch sizes", total=None)
        session = open_pack(pack, contract, choice)
        session.warm_up(lambda done, total: bars.update(bar, completed=done, total=total))
        bars.update(bar, completed=len(session.buckets), total=len(session.buckets))
    return session


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m export.convert.to_engine", description="Build TensorRT's engines of a pack ahead of time."
    )
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--engines", type=Path, required=True, help="the folder that the service is given")
    parser.add_argument("--precision", choices=get_args(Precision), help="without it: fp16 where the pack has it")
    parser.add_argument("--max-batch", type=int, default=8, help="as the service's MAX_BATCH")
    parser.add_argument("--gpu", type=int, default=0)
    args = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        pack = load_pack(args.pack)
        session = build(pack, args.engines, precision=args.precision, max_batch=args.max_batch, device=args.gpu)
    except PackError as error:
        sys.exit(str(error))
    except SessionError as error:
        sys.exit(
            f"No engine was built. {error}\nAn engine is built on the machine that will use it: an NVIDIA GPU, driver "
            "580 or newer, and pip install 'claimsight[gpu]'. `claimsight doctor` says what is missing."
        )
    spent, sizes = time.monotonic() - started, ", ".join(map(str, session.buckets))
    folder = engines.folder_of(args.engines, session.ref.sha256)
    print(f"{session.ref.precision} engines for batches of {sizes} rows in {spent:.0f} s: {folder}")


if __name__ == "__main__":
    main()
