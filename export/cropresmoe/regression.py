"""Give a memory pack its frozen regression set: `python -m export.cropresmoe.regression --data ../data`.

Validation crops, which are in no memory, with what the classifier says of them. The retrieval service decides them
again before it takes a person's case, and refuses a case that makes its answers worse.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from export.cropresmoe import evaluate
from services.common.serving.modelpack import load_pack, write_pack


def regression_file(
    probabilities: NDArray[np.float64], embedding: NDArray[np.float32], labels: NDArray[np.int64]
) -> bytes:
    """`regression.safetensors`: one row per crop, no photo and no name in it."""
    return save(
        {
            "embedding": embedding.astype(np.float16),
            "probabilities": probabilities.astype(np.float32),
            "label": labels.astype(np.uint8),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the regression set of a memory pack.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--classifier", type=Path, default=Path("models/cropresmoe"))
    parser.add_argument("--memory", type=Path, default=Path("models/memory"))
    args = parser.parse_args()
    classifier, memory = load_pack(args.classifier), load_pack(args.memory)
    if classifier.manifest.backbone != memory.manifest.backbone:
        parser.error("the classifier's pack and the memory's belong to different backbones")
    found = evaluate.answers(classifier, args.data, args.split)
    frozen = regression_file(found.probabilities, found.embedding, found.labels)
    write_pack(memory.folder, memory.manifest, {"memory": memory.read("memory"), "regression": frozen})
    print(f"{len(found.labels)} crops guard {memory.folder}.")


if __name__ == "__main__":
    main()
