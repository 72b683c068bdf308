"""What a claim leaves on the disk: `python -m benchmarks.storage --claims 20` (12-megapixel photos, one a claim)."""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import httpx2

from benchmarks import footprint
from benchmarks.photos import photos, scene


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storage", description=__doc__)
    parser.add_argument("--claims", type=int, default=20)
    options = parser.parse_args()
    sent = photos(scene(), options.claims)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        with footprint.standalone(data) as (url, _), httpx2.Client(timeout=300) as client:
            for photo in sent:
                answer = client.post(f"{url}/v1/claims", files={"photos": photo}, headers={"Prefer": "wait=60"})
                answer.raise_for_status()
                claim = answer.json()
                for picture in ("overlay.webp", "preview.webp"):
                    client.get(
                        f"{url}/v1/claims/{claim['id']}/photos/{claim['photos'][0]['id']}/{picture}"
                    ).raise_for_status()
        with closing(sqlite3.connect(data / "records.db")) as records:
            records.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            records.execute("VACUUM")
        print("| what | kB a claim of one photo |\n|---|---|")
        for what in ("store/photos", "store/overlays", "store/previews", "records.db"):
            print(f"| {what} | {_bytes(data / what) / options.claims / 1000:.1f} |")


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


if __name__ == "__main__":
    main()
