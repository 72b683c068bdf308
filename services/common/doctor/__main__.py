"""`python -m services.common.doctor [--json]`: is this machine, or this container, fit to serve?

Prints each check as soon as it is known, and ends with status 1 where one failed. `claimsight doctor` runs it in a
process of its own, because a provider's library can take the whole process with it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec

from services.common.doctor import gpu, host, stores
from services.common.doctor.check import Check
from services.common.doctor.settings import Settings
from services.common.serving.settings import InvalidSettings


def examine(settings: Settings) -> Iterator[Check]:
    """Every check that concerns this machine, the quick ones first."""
    yield from host.runtimes()
    yield from host.open_files()
    yield from host.disk(settings)
    yield from stores.redis(settings.gateway_redis_url)
    yield from stores.postgres(settings.gateway_database_url)
    cards = list(gpu.examine(needed=settings.needs_gpu))
    yield from cards
    if find_spec("onnxruntime") is None:
        yield Check("providers", "off", "ONNX Runtime is not installed here: this room runs no model")
        return
    from services.common.doctor import packs, rungs  # noqa: PLC0415 - the gateway's image has no ONNX Runtime

    yield from rungs.examine(gpu=any(card.state != "off" for card in cards))
    yield from packs.examine(settings)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m services.common.doctor", description="Is this machine, or this container, fit to serve?"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    wanted = parser.parse_args()
    try:
        settings = Settings.from_environment()
    except InvalidSettings as error:
        sys.exit(str(error))
    failed = False
    for check in examine(settings):
        failed |= check.state == "fail"
        print(json.dumps(asdict(check)) if wanted.json else _line(check), flush=True)
    sys.exit(int(failed))


def _line(check: Check) -> str:
    return f"{check.state:4} {check.what}: {check.found}" + (f"\n     -> {check.fix}" if check.fix else "")


if __name__ == "__main__":
    main()
