"""Everything about a classifier pack on one page: `python -m export.cropresmoe.report --data ../data`.

The page stands alone: tables, and figures as SVG. Given a segmenter, the pack is measured on its boxes too; rows of
the ablation, the frozen heads and the focal grid come from `--results` files, which those commands wrote. `--protocol
paper` takes one label a photo, as the paper does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from export.convert.compare import classifier as change_by_precision
from export.cropresmoe import results
from export.cropresmoe.cost import ARCHITECTURES, cost, latencies
from export.cropresmoe.dataset import EVERY_BOX, Protocol, load_crops
from export.cropresmoe.evaluate import answer, metrics, must_know, pack_cut, read_memory
from export.cropresmoe.predicted import predicted_crops
from export.cropresmoe.sections import HEAD, calibration, classes, comparison, experts, fallback
from export.labels import load_labels
from export.page import Page, interval, number
from export.training import commands_error
from services.common.serving.modelpack import Pack, load_pack


def report(pack: Pack, memory: Pack, args: argparse.Namespace) -> str:
    """The page as HTML."""
    manifest, labels = pack.manifest, load_labels()
    must_know(pack, labels)
    protocol = Protocol(args.source, one_a_photo=args.protocol == "paper")
    tables = [results.read(path) for path in args.results]  # a wrong file is found before the work
    measured = metrics(pack, memory, args.data, args.split, protocol=protocol)
    page = Page(f"{manifest.name} {manifest.version} on {args.split}")
    samples = "one label a photo, the paper's protocol" if protocol.one_a_photo else "every labelled box is a sample"
    page.say(f"{samples}; {len(measured.answers.labels)} samples. Intervals resample whole photos.")
    rows = [(m.name, number(m.value), interval(*m.ci95) if m.ci95 else "–", str(m.n)) for m in measured.metrics]
    page.table(HEAD, rows)
    classes(page, measured.answers, list(manifest.vocabulary.classes))
    experts(page, measured.answers, list(manifest.vocabulary.classes))
    calibration(page, measured, manifest)
    remembered = read_memory(memory, manifest)
    sets = {"drawn boxes": measured.answers, "jittered boxes": measured.jittered}
    if args.segmenter:
        crops, photos, labelled = predicted_crops(
            load_pack(args.segmenter), args.data, args.split, labels, pack_cut(manifest)
        )
        if photos:
            name = f"predicted boxes ({len(photos)} of {labelled} outlined damages found at IoU 0.3)"
            sets[name] = answer(pack, crops, photos)
    fallback(page, sets, remembered, manifest)
    precisions(page, pack, args)
    costs(page)
    for table in ("ablation", "frozen", "focal"):
        comparison(page, table, [r for found in tables for r in found if r.table == table])
    return page.render()


def precisions(page: Page, pack: Pack, args: argparse.Namespace) -> None:
    """Accuracy and speed of the fp16 and int8 graphs that the pack has."""
    page.heading("Precisions")
    variants: list[str] = [v for v in ("fp16", "int8") if v in pack.manifest.files]
    if not variants:
        page.say("The pack holds fp32 only; export.convert adds fp16 and int8.")
    crops, _ = load_crops(args.data, args.split, load_labels(), pack_cut(pack.manifest), wide=False)
    rows = []
    graphs = {v: pack.read(v) for v in ("fp32", *variants)}
    for n in (1, pack.manifest.max_batch):
        taken = latencies(graphs, crops.served[:n])
        for name, ms in taken.items():
            ratio = taken["fp32"].median / ms.median
            rows.append(
                (f"{name}, batch {n}", number(ms.median, 1), interval(ms.low, ms.high, 1), str(ms.n), f"{ratio:.2f}")
            )
    page.say("Milliseconds on one thread of ONNX Runtime's CPU provider; n runs, graphs in turns.")
    page.table(("graph", "median ms", "95 % interval", "n", "times as fast as fp32"), rows)
    if variants:
        found = change_by_precision(pack, variants, args.data, args.split)
        page.say("Changes against fp32 on the same crops, paired.")
        page.table(
            ("graph", *HEAD),
            [
                (v, name, f"{value:+.4f}", interval(*between, 4), str(n))
                for v, changes in found.items()
                for name, value, between, n in changes
            ],
        )


def costs(page: Page) -> None:
    page.heading("Cost of the architectures")
    page.say("Six classes, 224 pixels. A multiply-accumulate (MAC) is two FLOPs. Counted, so without interval.")
    rows = []
    for name, (backbone, head) in tqdm(ARCHITECTURES.items(), desc="costs", mininterval=5):
        c = cost(backbone, head, 6)
        rows.append((name, f"{c.parameters:,}", f"{c.macs / 1e9:.3f}"))
    page.table(("architecture", "parameters", "GMAC"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write one page about a classifier pack.")
    parser.add_argument("--pack", type=Path, default=Path("models/cropresmoe"))
    parser.add_argument("--memory", type=Path, default=Path("models/memory"))
    parser.add_argument("--segmenter", type=Path, help="an ALBERT pack: measure on its boxes too")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--protocol", choices=("boxes", "paper"), default="boxes", help="paper: one label a photo")
    parser.add_argument("--source", default=EVERY_BOX.source, help="label names, as labels.yaml translates them")
    parser.add_argument("--results", type=Path, nargs="*", default=[], help="results.json of ablation and frozen")
    parser.add_argument("--out", type=Path, default=Path("report.html"))
    args = parser.parse_args()
    with commands_error():
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(report(load_pack(args.pack), load_pack(args.memory), args), encoding="utf-8")
        print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
