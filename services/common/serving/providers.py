"""The ladder of ONNX Runtime providers: TensorRT, CUDA, OpenVINO, CPU; and how a session is opened on each.

ONNX Runtime silently falls back to the CPU when a provider cannot be loaded. Here a rung either runs the graph or
raises ProviderUnavailable with the reason, so that a fallback is always a decision and always visible.
"""

from __future__ import annotations

import functools
import json
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnxruntime as ort

from services.common.serving import engines

ProviderSetting = Literal["auto", "tensorrt", "cuda", "openvino", "cpu"]

CPU = "CPUExecutionProvider"

_registering = threading.Lock()


class ProviderUnavailable(Exception):
    """This rung cannot run here; the message says why."""


@dataclass(frozen=True)
class Plan:
    """What every rung needs to know to open a session."""

    graph: bytes
    threads: int
    input_name: str
    input_shape: tuple[int, ...]  # of one row
    max_batch: int
    half: bool  # the graph has half-precision weights
    cache_dir: Path | None  # where TensorRT keeps its engines of this graph
    device: int = 0  # which GPU


@dataclass(frozen=True)
class Rung:
    setting: ProviderSetting
    provider: str  # ONNX Runtime's name
    gpu: bool
    open: Callable[[Plan], ort.InferenceSession]
    engines: bool = False  # builds, for minutes, one engine for one batch size


def ladder(setting: ProviderSetting, *, require_gpu: bool = False) -> list[Rung]:
    """The rungs to try, fastest first."""
    return [rung for rung in _LADDER if setting in ("auto", rung.setting) and (rung.gpu or not require_gpu)]


def open_session(rung: Rung, plan: Plan) -> ort.InferenceSession:
    """A session that really runs on `rung`: most nodes of the graph were placed there. Raises ProviderUnavailable."""
    try:
        session = rung.open(plan)
    except ProviderUnavailable:
        raise
    except Exception as error:  # ONNX Runtime's own exceptions share no base class
        raise ProviderUnavailable(str(error).splitlines()[0]) from error
    placed = placement(session)
    if placed[rung.provider] * 2 <= placed.total():
        where = ", ".join(f"{count} on {name}" for name, count in placed.most_common()) or "none anywhere"
        raise ProviderUnavailable(f"most nodes of the graph did not go there ({where})")
    return session


def placement(session: ort.InferenceSession) -> Counter[str]:
    """Provider -> how many nodes of the graph it runs, as ONNX Runtime placed them."""
    nodes: Counter[str] = Counter()
    for group in session.get_provider_graph_assignment_info():
        nodes[group.ep_name] += len(group.get_nodes())
    return nodes


def _options(plan: Plan) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = plan.threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # pays only where every batch has one size
    options.log_severity_level = 3  # errors; warnings name nodes, and nobody can act on them
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a waiting thread must not burn a core
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def _open_cpu(plan: Plan) -> ort.InferenceSession:
    return ort.InferenceSession(plan.graph, _options(plan), providers=[CPU])


def _open_openvino(plan: Plan) -> ort.InferenceSession:
    options = _options(plan)
    device = _openvino_cpu()
    config = {"CPU": {"INFERENCE_NUM_THREADS": str(plan.threads), "NUM_STREAMS": "1"}}
    options.add_provider_for_devices([device], {"load_config": json.dumps(config)})
    return ort.InferenceSession(plan.graph, options)


def _openvino_cpu() -> ort.OrtEpDevice:
    """OpenVINO's device for this machine's CPU."""
    with _registering:  # several models open at the same time
        devices = _openvino_devices()
    for device in devices:
        if device.device.type == ort.OrtHardwareDeviceType.CPU:
            return device
    raise ProviderUnavailable("OpenVINO does not offer itself for this CPU (it wants an Intel one)")


@functools.cache  # a process can register a library only once
def _openvino_devices() -> list[ort.OrtEpDevice]:
    try:
        import onnxruntime_ep_openvino as plugin  # noqa: PLC0415 - an x86-64 wheel; elsewhere it cannot be installed
    except ImportError as error:
        raise ProviderUnavailable("the package onnxruntime-ep-openvino is not installed") from error
    ort.register_execution_provider_library("claimsight-openvino", plugin.get_library_path())
    return [device for device in ort.get_ep_devices() if device.ep_name == plugin.get_ep_name()]


def _open_gpu(plan: Plan, *wanted: tuple[str, dict[str, str]]) -> ort.InferenceSession:
    """A session on the first of the providers `wanted`; nodes that it cannot run go to the next."""
    if wanted[0][0] not in ort.get_available_providers():
        raise ProviderUnavailable("this build of ONNX Runtime does not have it: pip install 'claimsight[gpu]'")
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # CUDA and cuDNN from their wheels
    # By itself it would try again on the CPU, and the reason would be a line on stdout.
    return ort.InferenceSession(plan.graph, _options(plan), providers=wanted, enable_fallback=0)


def _open_cuda(plan: Plan) -> ort.InferenceSession:
    return _open_gpu(plan, _cuda(plan))


def _cuda(plan: Plan) -> tuple[str, dict[str, str]]:
    settings = {
        "device_id": str(plan.device),
        "arena_extend_strategy": "kSameAsRequested",  # the default doubles, and never gives back
        "cudnn_conv_algo_search": "HEURISTIC",  # an exhaustive search costs seconds for every new batch size
    }
    return "CUDAExecutionProvider", settings


def _open_tensorrt(plan: Plan) -> ort.InferenceSession:
    """An engine for `plan.max_batch` rows and no other number: one shape is what TensorRT tunes best.

    What TensorRT has no layer for runs on CUDA, not on the CPU, as
    https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html#python asks.
    """
    with suppress(ImportError):  # it may lie where the loader looks, without its wheels
        import tensorrt  # noqa: F401, PLC0415 - opens libnvinfer from its wheel, which preload_dlls does not know
    shape = f"{plan.input_name}:{plan.max_batch}x" + "x".join(str(size) for size in plan.input_shape)
    settings = {
        "device_id": str(plan.device),
        "trt_fp16_enable": str(int(plan.half)),  # networks are weakly typed here: halves in the graph do not suffice
        "trt_profile_min_shapes": shape,
        "trt_profile_opt_shapes": shape,
        "trt_profile_max_shapes": shape,
    }

    def opened() -> ort.InferenceSession:
        return _open_gpu(plan, ("TensorrtExecutionProvider", settings), _cuda(plan))

    if plan.cache_dir is None:
        return opened()
    with engines.kept(plan.cache_dir, plan.max_batch) as folder:
        settings |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(folder),
        }
        try:
            return opened()
        except ProviderUnavailable:
            raise
        except Exception:  # ONNX Runtime's own exceptions share no base class
            if not engines.forget(folder):
                raise
            return opened()  # once: the engine there was corrupt


_LADDER = (
    Rung("tensorrt", "TensorrtExecutionProvider", True, _open_tensorrt, engines=True),
    Rung("cuda", "CUDAExecutionProvider", True, _open_cuda),
    Rung("openvino", "OpenVINOExecutionProvider", False, _open_openvino),
    Rung("cpu", CPU, False, _open_cpu),
)
