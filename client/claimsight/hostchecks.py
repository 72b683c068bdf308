"""What `claimsight doctor` says about this machine, where more of Claimsight than this client is installed on it.

The checks live with the services and run in a process of their own: one of them starts the libraries of graphics cards.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from claimsight.diagnosis import Check

_MODULE = "services.common.doctor"


def examine() -> Iterator[Check]:
    """Each check as soon as it is known; none where only the client is installed."""
    try:
        if find_spec(_MODULE) is None:
            return
    except ModuleNotFoundError:  # not even the package that would hold it
        return
    command = [sys.executable, "-m", _MODULE, "--json"]
    failed = False
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        for line in process.stdout or ():
            check = Check(**json.loads(line))
            failed |= check.state == "fail"
            yield check
    if process.returncode != int(failed):  # 1 says no more than what was said to have failed
        fix = f"Run {' '.join(command)} to see where: a setting, or a driver and a library that do not fit."
        yield Check("host", "fail", f"the checks ended with status {process.returncode}", fix)
