"""Stage 4, merge: `python -m export.hers.fuse --experts experts/typical experts/scene --base sdxl --out merged`.

Writes the merged LoRA in diffusers' format and, with --pipeline, the base with the merge fused into its weights.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from export.hers import lora
from export.hers.merge import METHODS, Difference, MergeError, Method, compare, merge
from export.hers.pipeline import open_base, with_lora

IMPLAUSIBLE = "implausible"


def default_weights(names: list[str], purpose: str) -> list[float]:
    """Equal weights; for training data the implausible expert gets none: floating bumpers teach nothing about claims.

    `paper` weighs all alike (table h).
    """
    return [0.0 if purpose == "training" and name == IMPLAUSIBLE else 1.0 for name in names]


def fuse(
    experts: list[Path], out: Path, *, base: Path, method: Method = "mean", weights: list[float], rank: int = 0
) -> Difference:
    """Merge the experts' files into `out`; raises MergeError, also where an expert was made for another base."""
    mine = lora.base_sha256(base)
    for folder in experts:
        theirs = lora.base_of(folder)
        if theirs and theirs != mine:
            raise MergeError(f"{folder} was trained on another base ({theirs[:12]}...) than {base} ({mine[:12]}...)")
    read = [lora.read(folder) for folder in experts]
    merged = merge(read, weights, method=method, rank=rank)
    difference = compare(merged, read, weights)
    how = {"method": method, "experts": [folder.name for folder in experts], "weights": weights}
    lora.write(out, merged, base=mine, notes={"merge": json.dumps(how)})
    (out / "merge.json").write_text(json.dumps(how | asdict(difference), indent=1), encoding="utf-8")
    return difference


def main() -> None:
    parser = argparse.ArgumentParser(description="Merge LoRA experts of one base into one LoRA.")
    parser.add_argument("--experts", type=Path, nargs="+", required=True, help="folders of one LoRA each")
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--method", choices=METHODS, default="mean")
    parser.add_argument("--purpose", choices=("training", "paper"), default="training", help="sets default weights")
    parser.add_argument("--weights", type=float, nargs="+", help="one for each expert; 0 leaves it out")
    parser.add_argument("--rank", type=int, default=0, help="of svd; 0: the largest of the experts")
    parser.add_argument("--pipeline", type=Path, help="also write the base with the merge fused into it")
    args = parser.parse_args()
    weights = args.weights or default_weights([folder.name for folder in args.experts], args.purpose)
    found = fuse(args.experts, args.out, base=args.base, method=args.method, weights=weights, rank=args.rank)
    print(f"rank {found.rank}, {found.relative_error:.2e} from the mean of updates, cosine {found.cosine:.6f}")
    if args.pipeline:
        with_lora(open_base(str(args.base)), args.out).save_pretrained(args.pipeline, safe_serialization=True)


if __name__ == "__main__":
    main()
