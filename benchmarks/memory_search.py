"""How right and how fast the memory's searches are: `python -m benchmarks.memory_search --rows 9000 200000 --work W`.

Compares ChromaDB's index with comparing against every row, on two kinds of vectors. `real`: the shipped memory's
embeddings, moved towards one of their 15 nearest and by the difference of two other neighbours, which is how crops of
similar damages differ. `synthetic`: around 200 random centres.

Times are processor time, all threads of the process together, medians of queries one after the other: on a machine
that others use too they say what a search costs, where a wall clock says who else was there. W keeps indexes and
results: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import chromadb
import numpy as np
from chromadb.config import Settings as ChromaSettings
from numpy.typing import NDArray
from safetensors.numpy import load
from tqdm import tqdm

from services.common.serving.modelpack import load_pack
from services.retrieval.index import hnsw
from services.retrieval.nearest import NearestCases
from services.retrieval.rows import Row, to_bytes
from services.retrieval.vectors import Where

Floats = NDArray[np.float32]
K = 8
NEAR = 15  # neighbours that a vector may be moved to
AT_ONCE = 8  # queries in one search: a photo with many damages
LABELS = {"half": 0.5, "fifth": 0.2, "twentieth": 0.05, "two hundredth": 0.005}  # label -> share of the rows


def unit(rows: NDArray[np.floating]) -> Floats:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def real(pack: Path, rows: int, rng: np.random.Generator) -> Floats:
    found = unit(load(load_pack(pack).read("memory"))["embedding"].astype(np.float32))
    closeness = found @ found.T
    np.fill_diagonal(closeness, -1)
    near = np.argpartition(-closeness, NEAR, axis=1)[:, :NEAR]

    def pairs() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        one = rng.integers(0, len(found), rows)
        return one, near[one, rng.integers(0, NEAR, rows)]

    (one, other), (left, right) = pairs(), pairs()
    towards, aside = rng.random((2, rows, 1), np.float32)
    moved = towards * (found[other] - found[one]) + 0.5 * aside * (found[left] - found[right])
    return unit(found[one] + moved)


def synthetic(_: Path, rows: int, rng: np.random.Generator) -> Floats:
    centres = unit(rng.normal(size=(200, 256)))
    return unit(centres[rng.integers(0, 200, rows)] + 0.8 * unit(rng.normal(size=(rows, 256))))


KINDS = {"real": real, "synthetic": synthetic}


def milliseconds(work: Callable[[Floats], object], queries: Floats, at_once: int = 1) -> float:
    """Median processor time of one call with `at_once` queries."""
    work(queries[:at_once])
    spent = []
    for start in range(0, len(queries) - at_once + 1, at_once):
        started = time.process_time()
        work(queries[start : start + at_once])
        spent.append(time.process_time() - started)
    return 1000 * float(np.median(spent))


def chroma_where(matrix: Floats, labels: list[str], queries: Floats, folder: Path) -> dict[str, float]:
    """What ChromaDB's own filters take: milliseconds by label."""
    client = chromadb.PersistentClient(str(folder), ChromaSettings(anonymized_telemetry=False))
    collection = client.get_or_create_collection(
        "filters", embedding_function=None, configuration={"hnsw": hnsw(len(matrix))}
    )
    for start in tqdm(range(collection.count(), len(matrix), 1000), desc="filters", unit="k"):
        end = min(start + 1000, len(matrix))
        collection.add(
            ids=[str(i) for i in range(start, end)],
            embeddings=matrix[start:end],
            metadatas=[{"label": label} for label in labels[start:end]],
        )

    def asked(label: str) -> Callable[[Floats], object]:
        return lambda query: collection.query(query_embeddings=query, n_results=K, where={"label": label})

    return {label: milliseconds(asked(label), queries[:20]) for label in LABELS}


def measured(kind: str, matrix: Floats, queries: Floats, folder: Path, *, filters: bool) -> dict[str, float]:
    rng = np.random.default_rng(1)
    shares = np.cumsum(list(LABELS.values()))
    labels = [[*LABELS, "rest"][int(i)] for i in np.searchsorted(shares, rng.random(len(matrix)), side="right")]
    started, worked = time.perf_counter(), time.process_time()
    cases = NearestCases.open(_rows(matrix, labels), matrix.shape[1], folder, {"backbone": f"{kind} {len(matrix)}"})
    opened = {"opened, s": time.perf_counter() - started, "opened, cpu s": time.process_time() - worked}
    indexed = NearestCases(cases._vectors, cases._index, exact_up_to=0)
    exact = NearestCases(cases._vectors, cases._index, exact_up_to=len(matrix))
    truth, found = (
        [[n.id for n in row] for row in searched.search(queries, K, Where())] for searched in (exact, indexed)
    )
    recall = np.mean([len({*a} & {*b}) / K for a, b in zip(truth, found, strict=True)])

    def plain(query: Floats) -> object:
        return np.argpartition(-(query @ matrix.T)[0], K)[:K]

    times = {"numpy": milliseconds(plain, queries)}
    for name, searched in (("exact", exact), ("chromadb", indexed)):
        work = partial(searched.search, k=K, where=Where())
        times[name] = milliseconds(work, queries)
        times[f"{name}, {AT_ONCE} queries"] = milliseconds(work, queries, AT_ONCE)
    for label, share in LABELS.items():
        times[f"filter {share:.1%}, served"] = milliseconds(
            partial(cases.search, k=K, where=Where(label=label)), queries
        )
    if filters:
        native = chroma_where(matrix, labels, queries, folder / "filters")
        times |= {f"filter {share:.1%}, ChromaDB's own": native[label] for label, share in LABELS.items()}
    cases.close()
    return {"recall@8": float(recall), **opened, **times}


def table(found: list[dict[str, float]], sizes: list[str]) -> str:
    """One column a size; milliseconds with their ratio to plain NumPy."""
    lines = [f"| | {' | '.join(sizes)} |", "|---" * (len(sizes) + 1) + "|"]
    for name in found[0]:
        cells = []
        for one in found:
            value = one.get(name, float("nan"))
            apart = name == "recall@8" or name.startswith("opened")
            cells.append(f"{value:.4f}" if apart else f"{value:.2f} ms ({value / one['numpy']:.2f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _rows(matrix: Floats, labels: list[str]) -> Iterable[list[Row]]:
    for start in range(0, len(matrix), 1000):
        yield [
            Row(f"r{i:07}", to_bytes(matrix[i]), labels[i], "training", "bench")
            for i in range(start, min(start + 1000, len(matrix)))
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Recall and cost of the memory's searches.")
    parser.add_argument("--rows", type=int, nargs="+", default=[9000])
    parser.add_argument("--pack", type=Path, default=Path("models/memory"))
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--filters", action="store_true", help="ChromaDB's own filters as well (a second index)")
    parser.add_argument("--kinds", nargs="+", default=["real", "synthetic"], choices=list(KINDS))
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps indexes and results")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for kind in args.kinds:
        found = []
        for rows in tqdm(args.rows, desc=kind, unit="size"):
            kept = args.work / f"{kind}-{rows}.json"
            if not kept.is_file():
                made = KINDS[kind](args.pack, rows + args.queries, np.random.default_rng(0))
                order = np.random.default_rng(2).permutation(len(made))
                matrix, queries = made[order[args.queries :]], made[order[: args.queries]]
                folder = args.work / f"{kind}-{rows}"
                kept.write_text(json.dumps(measured(kind, matrix, queries, folder, filters=args.filters)))
            found.append(json.loads(kept.read_text()))
        print(table(found, [f"{kind}, {rows:,}" for rows in args.rows]), flush=True)


if __name__ == "__main__":
    main()
