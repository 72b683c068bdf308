"""What the splits of a data set hold, as a table, and whether they are apart.

python -m export.data.splits train.json val.json test.json
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from export.data.coco import CocoError, CocoSet, read_coco


def summary(sets: Sequence[CocoSet]) -> str:
    """One row per file: photos, empty ones, and regions per category (of these with a mask)."""
    names = list(dict.fromkeys(name for s in sets for name in s.categories))
    rows = [["file", "photos", "empty on purpose", *names]]
    for s in sets:
        every = Counter(a.category for p in s.photos for a in p.annotations)
        outlined = Counter(a.category for p in s.photos for a in p.annotations if a.has_mask)
        negatives = sum(p.negative is not None and not p.annotations for p in s.photos)
        cells = [f"{every[n]} ({outlined[n]})" for n in names]
        rows.append([s.path.name, str(len(s.photos)), str(negatives), *cells])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)


def leaks(sets: Sequence[CocoSet]) -> list[str]:
    """Groups and picture files that stand in more than one split: numbers measured on such splits mean nothing."""
    found = []
    for i, a in enumerate(sets):
        for b in sets[i + 1 :]:
            groups = {p.group for p in a.photos if p.group is not None} & {p.group for p in b.photos}
            files = {p.path.resolve() for p in a.photos} & {p.path.resolve() for p in b.photos}
            found += [f"group {g} stands in {a.path.name} and {b.path.name}" for g in sorted(groups, key=str)]
            found += [f"{f.name} stands in {a.path.name} and {b.path.name}" for f in sorted(files)]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Check COCO files and show what they hold.")
    parser.add_argument("files", nargs="+", type=Path, help="one COCO file per split")
    try:
        sets = [read_coco(path) for path in parser.parse_args().files]
    except CocoError as error:
        print(error, file=sys.stderr)
        return 1
    print(summary(sets))
    problems = leaks(sets)
    print("\n".join(problems[:20]) if problems else "No group and no picture stands in two splits.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
