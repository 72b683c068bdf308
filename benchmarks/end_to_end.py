"""`make bench`: one photo end to end against its bare models, and what running Claimsight costs. Prints a table.

Uses the packs that the services would use (`CLAIMSIGHT_SEGMENTER_PACK`, ...).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import onnxruntime
import uvicorn

from benchmarks import footprint, overhead
from benchmarks.overhead import Round
from benchmarks.photos import HEIGHT, WIDTH, photos, scene
from services import standalone
from services.common.jobs import embedded
from services.common.serving import run
from services.common.serving.schemas import ModelRef
from services.common.vision.photo import open_photo

TARGET_RATIO, TARGET_START_S, TARGET_RSS_MB, TARGET_IDLE, TARGET_INSTALL_MB = 1.25, 10.0, 1500.0, 0.01, 1300.0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.end_to_end", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="photos measured, after two to warm up")
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    parser.add_argument("--width", type=int, default=WIDTH, help="of the photo; its height follows at 4:3")
    parser.add_argument("--photo", type=Path, help="a real photo, sent enlarged and with grain, for the rendered one")
    options = parser.parse_args(arguments)
    run.prepare(standalone.Settings(log_level="warning", log_format="console"), "benchmark")
    pixels = open_photo(options.photo.read_bytes()).pixels if options.photo else scene()
    sent = photos(pixels, options.rounds + 2, width=options.width, height=options.width * HEIGHT // WIDTH)
    with tempfile.TemporaryDirectory(prefix="claimsight-bench-") as folder:
        with asyncio.Runner(loop_factory=uvicorn.Config("", log_config=None).get_loop_factory()) as runner:
            models, rounds = runner.run(_overhead(Path(folder) / "a", sent))
        costs = footprint.measure(sent[0], Path(folder) / "b", idle_s=options.idle_seconds)
    print(_machine())
    for model in models:
        print(f"{model.name} {model.version}, {model.precision} on {model.provider}")
    source = "a real photo enlarged" if options.photo else "a rendered toy car"
    print(f"{len(rounds)} rounds, photo {options.width} px wide, {len(sent[0]) / 1e6:.1f} MB JPEG, {source}\n")
    print(_table(rounds, costs))


async def _overhead(data: Path, sent: list[bytes]) -> tuple[list[ModelRef], list[Round]]:
    settings = standalone.Settings(port=0, data=data)
    listener = standalone.listen(settings.host, settings.port)
    with listener, embedded.running(data / "queue") as redis_url:
        async with standalone.serving(settings, listener, redis_url), overhead.raw_models() as raw:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            return raw.models, await overhead.measure(url, sent, raw)


def _table(rounds: list[Round], costs: footprint.Footprint) -> str:
    installed = footprint.install_mb()
    rows = [
        _timed("claim, end to end, ms", rounds, lambda r: r.claim.clock),
        _timed("  scaled decode, ms", rounds, lambda r: r.decode.clock),
        _timed("  segmenter run, ms", rounds, lambda r: r.segment.clock),
        _timed("  classifier run, ms", rounds, lambda r: r.classify.clock),
        _timed("  crops", rounds, lambda r: r.crops),
        _timed("claim / (decode + runs)", rounds, lambda r: r.claim.clock / r.floor.clock, f"<= {TARGET_RATIO}", ".2f"),
        _timed("claim, processor, ms", rounds, lambda r: r.claim.processor),
        _timed("  / (decode + runs)", rounds, lambda r: r.claim.processor / r.floor.processor, form=".2f"),
        ("start to ready, s", f"{costs.start_s:.1f}", "", f"<= {TARGET_START_S:.0f}"),
        ("RSS after a claim, MB", f"{costs.rss_mb:.0f}", "", f"<= {TARGET_RSS_MB:.0f}"),
        ("idle CPU, share of a core", f"{costs.idle_cpu:.4f}", "", f"< {TARGET_IDLE}"),
        ("base installation, MB", f"{installed:.0f}", "", f"<= {TARGET_INSTALL_MB:.0f}"),
    ]
    lines = [("", "median", "quartiles", "target"), *rows]
    return "\n".join(
        f"{name:<28}{median:>10}{quartiles:>20}{target:>12}".rstrip() for name, median, quartiles, target in lines
    )


def _timed(
    name: str, rounds: list[Round], value: Callable[[Round], float], target: str = "", form: str = ".1f"
) -> tuple[str, str, str, str]:
    values = sorted(map(value, rounds))
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return name, f"{median:{form}}", f"{low:{form}} .. {high:{form}}", target


def _machine() -> str:
    models = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    processor = models[0] if models else platform.processor() or platform.machine()
    versions = f"Python {platform.python_version()}, ONNX Runtime {onnxruntime.__version__}"
    return f"{processor}, {len(os.sched_getaffinity(0))} cores, {versions}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


if __name__ == "__main__":
    main()
