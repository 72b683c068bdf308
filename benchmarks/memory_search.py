"""How right and how fast the memory's searches are: `python -m benchmarks.memory_search --rows 9000`.

Compares ChromaDB's index with comparing against every row, on two kinds of vectors: `real`, the shipped memory's
embeddings repeated with noise until there are enough (as photos of the same damages would be), and `synthetic`, drawn
around 200 random centres. Latencies are of one query at a time, in turn, in one process; read their ratios.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import chromadb
import numpy as np
from chromadb.config import Settings as ChromaSettings
from numpy.typing import NDArray
from safetensors.numpy import load

from services.common.serving.modelpack import load_pack
from services.retrieval.index import HNSW
from services.retrieval.nearest import NearestCases
from services.retrieval.rows import Row, to_bytes
from services.retrieval.vectors import Where

Floats = NDArray[np.float32]
K = 8
NOISE = 0.4  # length of the noise beside a vector's 1: its own nearest is then about as far as another photo's crop
LABELS = {"half": 0.5, "fifth": 0.2, "twentieth": 0.05, "two hundredth": 0.005}  # label -> share of the rows


def unit(rows: NDArray[np.floating]) -> Floats:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def real(pack: Path, rows: int, rng: np.random.Generator) -> Floats:
    found = load(load_pack(pack).read("memory"))["embedding"].astype(np.float32)
    some = found[rng.integers(0, len(found), rows)]
    some[: min(rows, len(found))] = found[:rows]
    return unit(some + _noise(some.shape, rng) * (np.arange(rows) >= len(found))[:, None])


def synthetic(_: Path, rows: int, rng: np.random.Generator) -> Floats:
    centres = unit(rng.normal(size=(200, 256)))
    some = centres[rng.integers(0, 200, rows)]
    return unit(some + 2 * _noise(some.shape, rng))


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    return np.asarray(NOISE * unit(rng.normal(size=shape)), np.float32)


def milliseconds(work: Callable[[Floats], object], queries: Floats) -> float:
    """Median of one query at a time."""
    work(queries[:1])
    spent = []
    for query in queries:
        started = time.perf_counter()
        work(query[None])
        spent.append(time.perf_counter() - started)
    return 1000 * float(np.median(spent))


def chroma_where(matrix: Floats, labels: list[str], queries: Floats, folder: Path) -> dict[str, float]:
    """What ChromaDB's own filters take: milliseconds by label."""
    client = chromadb.PersistentClient(str(folder), ChromaSettings(anonymized_telemetry=False))
    collection = client.create_collection("filters", embedding_function=None, configuration={"hnsw": HNSW})
    for start in range(0, len(matrix), 5000):
        end = min(start + 5000, len(matrix))
        collection.add(
            ids=[str(i) for i in range(start, end)],
            embeddings=matrix[start:end],
            metadatas=[{"label": label} for label in labels[start:end]],
        )

    def asked(label: str) -> Callable[[Floats], object]:
        return lambda query: collection.query(query_embeddings=query, n_results=K, where={"label": label})

    return {label: milliseconds(asked(label), queries[:20]) for label in LABELS}


def table(kind: str, matrix: Floats, queries: Floats, folder: Path, *, filters: bool) -> list[str]:
    rng = np.random.default_rng(1)
    shares = np.cumsum(list(LABELS.values()))
    labels = [[*LABELS, "rest"][int(i)] for i in np.searchsorted(shares, rng.random(len(matrix)), side="right")]
    started = time.perf_counter()
    cases = NearestCases.open(_rows(matrix, labels), matrix.shape[1], folder / kind, {"backbone": kind})
    built = time.perf_counter() - started
    indexed = NearestCases(cases._vectors, cases._index, exact_up_to=0)
    exact = NearestCases(cases._vectors, cases._index, exact_up_to=len(matrix))
    truth, found = (
        [[n.id for n in row] for row in searched.search(queries, K, Where())] for searched in (exact, indexed)
    )
    recall = np.mean([len({*a} & {*b}) / K for a, b in zip(truth, found, strict=True)])

    def plain(query: Floats) -> object:
        return np.argpartition(-(query @ matrix.T)[0], K)[:K]

    numpy_ms = milliseconds(plain, queries)
    native = chroma_where(matrix, labels, queries, folder / f"{kind}-filters") if filters else {}
    lines = [
        f"| {kind} | {len(matrix):,} | {recall:.4f} | built in {built:.0f} s | {numpy_ms:.2f} ms | 1 |",
        _line("exact search", milliseconds(lambda q: exact.search(q, K, Where()), queries), numpy_ms),
        _line("ChromaDB's index", milliseconds(lambda q: indexed.search(q, K, Where()), queries), numpy_ms),
    ]
    for label, share in LABELS.items():
        served = partial(cases.search, k=K, where=Where(label=label))
        lines.append(_line(f"filter {share:.1%}, as served", milliseconds(served, queries), numpy_ms))
        if native:
            lines.append(_line(f"filter {share:.1%}, ChromaDB's own", native[label], numpy_ms))
    cases.close()
    return lines


def _line(what: str, ms: float, numpy_ms: float) -> str:
    return f"| | | | {what} | {ms:.2f} ms | {ms / numpy_ms:.2f} |"


def _rows(matrix: Floats, labels: list[str]) -> Iterable[list[Row]]:
    for start in range(0, len(matrix), 1000):
        yield [
            Row(f"r{i:07}", to_bytes(matrix[i]), labels[i], "training", "bench")
            for i in range(start, min(start + 1000, len(matrix)))
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Recall and latency of the memory's searches.")
    parser.add_argument("--rows", type=int, nargs="+", default=[9000])
    parser.add_argument("--pack", type=Path, default=Path("models/memory"))
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--filters", action="store_true", help="ChromaDB's own filters as well (a second index)")
    parser.add_argument("--kinds", nargs="+", default=["real", "synthetic"], choices=["real", "synthetic"])
    args = parser.parse_args()
    print("| vectors | rows | recall@8 | | one query | / NumPy |\n|---|---|---|---|---|---|")
    for rows in args.rows:
        for kind in args.kinds:
            made = {"real": real, "synthetic": synthetic}[kind](
                args.pack, rows + args.queries, np.random.default_rng(0)
            )
            order = np.random.default_rng(2).permutation(len(made))
            matrix, queries = made[order[args.queries :]], made[order[: args.queries]]
            with tempfile.TemporaryDirectory() as folder:
                print("\n".join(table(kind, matrix, queries, Path(folder), filters=args.filters)), flush=True)


if __name__ == "__main__":
    main()
