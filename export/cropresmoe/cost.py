"""What a model costs: parameters, multiply-accumulates, milliseconds."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from export.convert.to_onnx import session
from export.cropresmoe.model import CropResMoE, RawMoE, count_parameters

ARCHITECTURES = {
    "RawMoE": ("raw", "moe"),
    "CropResMoE-50": ("resnet50", "moe"),
    "CropResMoE on EfficientNet-Lite2": ("lite2", "moe"),
    "CropResMoE on EfficientNet-Lite0": ("lite0", "moe"),
    "ResNet-50": ("resnet50", "linear"),
    "EfficientNet-B0": ("efficientnet_b0", "linear"),
    "Swin-T": ("swin_t", "linear"),
}


@dataclass(frozen=True)
class Cost:
    """`macs`: multiply-accumulates of one crop; a FLOP count is twice that, which papers mix up (table l)."""

    parameters: int
    macs: int


def cost(backbone: str, head: str, classes: int, size: int = 224) -> Cost:
    """Counted on shapes alone: no weights, no memory."""
    with torch.device("meta"):
        model = RawMoE(classes) if backbone == "raw" else CropResMoE(backbone, classes, head=head)
        model.eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.zeros(1, size, size, 3, dtype=torch.uint8))
    return Cost(count_parameters(model), counter.get_total_flops() // 2)


@dataclass(frozen=True)
class Latency:
    """Milliseconds for a batch: the median of n runs, and its 95 % interval by resampling them."""

    median: float
    low: float
    high: float
    n: int


def latencies(graphs: dict[str, bytes], crops: NDArray[np.uint8], runs: int = 21) -> dict[str, Latency]:
    """Each graph on one thread of the plain CPU provider; they take turns, so what else the machine does hits all."""
    runners = {name: session(graph, threads=1) for name, graph in graphs.items()}
    taken: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(runs + 1):
        for name, runner in runners.items():
            started = time.perf_counter()
            runner.run(None, {runner.get_inputs()[0].name: crops})
            taken[name].append(1000 * (time.perf_counter() - started))
    return {name: _median(np.array(times[1:])) for name, times in taken.items()}  # the first run allocates


def _median(times: NDArray[np.float64]) -> Latency:
    draws = np.median(times[np.random.default_rng(0).integers(0, len(times), (1000, len(times)))], axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Latency(float(np.median(times)), float(low), float(high), len(times))
