"""`make audit`: what the images are made of (CycloneDX, in sbom/), and which of it has a known weakness.

Ends with 0 where every locked package was looked up and none has a weakness that is not accepted below, with 1 where
one has, and with 3 where the advisory database was not reached for all of them: nothing is known then, and it says so.
Needs the extra `ops`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCKS, SBOMS = ROOT / "deploy" / "locks", ROOT / "sbom"
WEAK, NOT_REACHED = 1, 3
UNREACHED = "THE ADVISORY DATABASE WAS NOT REACHED: nothing is known about any package"
ACCEPTED = {
    "CVE-2026-45829": "ChromaDB's HTTP server, which is never started: it is used embedded, with vectors only",
    "CVE-2026-45833": "the same",
}


def main() -> int:
    SBOMS.mkdir(exist_ok=True)
    locks = [lock for lock in sorted(LOCKS.glob("*.txt")) if lock.name != "tensorrt.txt"]  # its packages hold nothing
    for lock in locks:
        write_sbom(lock, SBOMS / f"{lock.stem}.cdx.json")
        print(f"wrote {(SBOMS / lock.stem).relative_to(ROOT)}.cdx.json", flush=True)
    status = 0
    for lock in locks:
        found, lines = verdict(advisories(lock))
        print("\n".join(f"{lock.stem}: {line}" for line in lines), flush=True)
        status = WEAK if WEAK in (status, found) else max(status, found)
        if lines == [UNREACHED]:
            break  # the others would not be answered either
    return status


def write_sbom(lock: Path, path: Path) -> None:
    """The bill of materials of one lock file; the same lock gives the same bytes."""
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", str(lock), "--output-reproducible"]
    command += ["--pyproject", str(ROOT / "pyproject.toml"), "--output-file", str(path)]
    subprocess.run(command, check=True, capture_output=True)


def advisories(lock: Path) -> Mapping[str, Any] | None:
    """pip-audit's report of the locked versions, or None where it could not ask."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--require-hashes", "--disable-pip"]
    command += ["--format", "json", "--aliases", "on", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        report: Mapping[str, Any] = json.loads(done.stdout)
    except ValueError:
        return None
    return report


def verdict(report: Mapping[str, Any] | None) -> tuple[int, list[str]]:
    """The status of a report, and what to tell. A package that the database does not know was not checked."""
    packages = report["dependencies"] if report else []
    unknown = [package["name"] for package in packages if "vulns" not in package]
    lines = []
    status = 0
    if not packages or len(unknown) == len(packages):
        return NOT_REACHED, [UNREACHED]
    if unknown:
        status = NOT_REACHED
        lines.append(f"NOT LOOKED UP: {', '.join(unknown)}")
    for package in packages:
        for weakness in package.get("vulns", []):
            ids = [weakness["id"], *weakness.get("aliases", [])]
            reasons = [ACCEPTED[each] for each in ids if each in ACCEPTED]
            mended = ", ".join(weakness.get("fix_versions", [])) or "no version yet"
            told = f"accepted: {reasons[0]}" if reasons else f"mended in {mended}: make lock UPGRADE=1"
            lines.append(f"{package['name']} {package['version']} has {ids[0]} ({told})")
            status = status if reasons else WEAK
    return status, lines or [f"{len(packages)} packages looked up, no weakness known"]


if __name__ == "__main__":
    sys.exit(main())
