"""One graph of a pack on one provider, proven against the pack's golden outputs before it may answer."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime as ort
import structlog
from numpy.typing import NDArray

from services.common.serving import engines, providers, telemetry
from services.common.serving.cores import cpu_threads
from services.common.serving.golden import Contract, Golden, Outputs, first_line
from services.common.serving.modelpack import Pack, PackError
from services.common.serving.providers import Plan, ProviderSetting, ProviderUnavailable, Rung
from services.common.serving.schemas import ModelRef

Precision = Literal["fp32", "fp16", "int8"]

_log = structlog.get_logger(__name__)


class SessionError(Exception):
    """No provider can run this pack as the settings ask. The message lists what was tried and what to do."""


class NotFiniteError(Exception):
    """The graph answered NaN or infinity: an error, never "no damage"."""


@dataclass(frozen=True)
class Choice:
    """What the settings ask for."""

    provider: ProviderSetting = "auto"
    precision: Literal["auto", "fp32", "fp16", "int8"] = "auto"
    require_gpu: bool = False
    threads: int = 0  # 0: the cores this process may use
    max_batch: int = 8
    cache_dir: Path | None = None
    device: int = 0  # which GPU


Opened = Callable[[int, int], None]  # told before each batch size is opened and run: how many are done, of how many


class Session:
    """Runs rows through the graph. One thread uses it at a time: the batcher's."""

    def __init__(self, rung: Rung, plan: Plan, *, pack: Pack, example: NDArray[np.uint8], precision: Precision) -> None:
        """Opens the smallest batch size, or every one where they share a session. Raises ProviderUnavailable."""
        self._rung, self._plan, self._name = rung, plan, pack.manifest.name
        self._example = example  # uint8 [1, h, w, 3], a row it is known to answer
        self._pads = rung.gpu  # engines and kernels are tuned per batch size there; on a CPU padding is only work
        self.buckets = buckets(plan.max_batch)
        self._inner: dict[int, ort.InferenceSession] = {}
        first = self._opened(1)
        self._names = [output.name for output in first.get_outputs()]
        self.providers: list[str] = [name for name, _ in providers.placement(first).most_common()]
        self.notes = ""
        self.ref = ModelRef(
            name=pack.manifest.name,
            version=pack.manifest.version,
            sha256=pack.manifest.files[precision].sha256,
            precision=precision,
            provider=rung.provider,
        )

    @property
    def builds_engines(self) -> bool:
        return self._rung.engines

    def run(self, rows: NDArray[np.uint8]) -> Outputs:
        """`rows`: uint8 [n, h, w, 3], n at most the largest bucket; answers float32 arrays [n, ...] by name.

        Where the device has no memory for n rows it gets half of them, twice. Raises NotFiniteError, or whatever ONNX
        Runtime raises.
        """
        try:
            return self._run(rows)
        except NotFiniteError:
            raise
        except Exception as error:  # ONNX Runtime's own exceptions share no base class
            if len(rows) == 1 or not _OUT_OF_MEMORY.search(str(error)):
                raise
            telemetry.SHED.labels(self._name, "out_of_memory").inc()
            _log.warning("no memory for a batch; it runs in halves", model=self.ref.name, rows=len(rows))
            half = (len(rows) + 1) // 2
            first, second = self.run(rows[:half]), self.run(rows[half:])
            return {name: np.concatenate([first[name], second[name]]) for name in first}

    def _run(self, rows: NDArray[np.uint8]) -> Outputs:
        n = len(rows)
        bucket = next(b for b in self.buckets if b >= n)
        if self._pads:
            telemetry.BATCH_PADDING.labels(self._name).observe((bucket - n) / bucket)
            rows = np.concatenate([rows, np.zeros((bucket - n, *rows.shape[1:]), np.uint8)])
        found = self._opened(bucket).run(self._names, {self._plan.input_name: rows})
        outputs = {name: np.asarray(array[:n]) for name, array in zip(self._names, found, strict=True)}
        for name, array in outputs.items():
            if not np.isfinite(array).all():
                raise NotFiniteError(f"the output {name} holds NaN or infinity")
        return outputs

    def _opened(self, bucket: int) -> ort.InferenceSession:
        """ONNX Runtime's session for a batch size: one for all of them, or with its own engine each."""
        if bucket not in self._inner:
            plan = replace(self._plan, max_batch=bucket) if self._rung.engines else self._plan
            started = time.perf_counter()
            opened = providers.open_session(self._rung, plan)
            if self._rung.engines:
                spent = time.perf_counter() - started
                telemetry.ENGINE_BUILD_SECONDS.labels(self._name, str(bucket)).set(spent)
            self._inner |= {size: opened for size in ((bucket,) if self._rung.engines else self.buckets)}
        return self._inner[bucket]

    def warm_up(self, tell: Opened = lambda done, total: None) -> float:
        """Run every batch size once: the first run of each allocates, and on a GPU compiles. Answers seconds.

        Raises PackError where the graph cannot take a batch, as one exported with a fixed batch axis cannot.
        """
        started = time.perf_counter()
        for done, size in enumerate(self.buckets):
            tell(done, len(self.buckets))
            rows = np.repeat(self._example, size, axis=0)
            try:
                self._run(rows)
            except Exception as error:  # ONNX Runtime's own exceptions share no base class
                if size > 1 and _OUT_OF_MEMORY.search(str(error)):
                    self.buckets = self.buckets[:done]  # what does not fit now never will: the largest that did is all
                    self.notes = "; ".join([*filter(None, [self.notes]), f"no memory for {size} rows at once"])
                    break
                raise PackError(
                    f"{self.ref.name} {self.ref.version}: cannot run a batch of {size}: {first_line(error)}"
                ) from error
        return time.perf_counter() - started


def buckets(max_batch: int) -> tuple[int, ...]:
    """The batch sizes to warm: powers of two up to `max_batch`, and `max_batch` itself."""
    return (*(size for size in (1, 2, 4, 8, 16, 32, 64) if size < max_batch), max_batch)


def open_pack(pack: Pack, contract: Contract, choice: Choice) -> Session:
    """The pack's graph on the first rung of the ladder that really runs it and agrees with its golden outputs.

    The fp32 graph must give the golden outputs on the plain CPU provider within the pack's `tolerance`; the chosen
    provider and precision, which may round differently, within its `parity`. Raises PackError and SessionError.
    """
    golden = Golden(pack, contract)
    tried: list[str] = []
    for rung in providers.ladder(choice.provider, require_gpu=choice.require_gpu):
        for precision in _precisions(pack, choice, rung):
            try:
                session = Session(
                    rung, _plan(pack, contract, choice, precision), pack=pack, example=golden.rows, precision=precision
                )
                if rung.provider == providers.CPU and precision == "fp32":
                    golden.must_hold(session.run)  # this session is itself the plain CPU one: no second is needed
                else:
                    golden.must_be_near(session.run, pack.manifest.files[precision].parity or pack.manifest.parity)
                    plain = _plan(pack, contract, choice, "fp32")
                    golden.must_hold(Session(_CPU_RUNG, plain, pack=pack, example=golden.rows, precision="fp32").run)
            except ProviderUnavailable as error:
                tried.append(f"{rung.setting}{'' if precision == 'fp32' else ' ' + precision}: {error}")
                continue
            session.notes = "; ".join(tried)
            return session
    wish = f"provider={choice.provider}" + (" with require_gpu" if choice.require_gpu else "")
    raise SessionError(
        f"No provider can run {pack.manifest.name} {pack.manifest.version} with {wish} ({'; '.join(tried) or 'none'}). "
        "Use provider=auto, or mend what is named here."
    )


def _plan(pack: Pack, contract: Contract, choice: Choice, precision: Precision) -> Plan:
    shape = pack.manifest.input
    return Plan(
        graph=pack.read(precision),
        threads=choice.threads or cpu_threads(),
        input_name=contract.input_name,
        input_shape=(shape.height, shape.width, 3),
        max_batch=min(choice.max_batch, pack.manifest.max_batch),
        half=precision == "fp16",
        cache_dir=choice.cache_dir and engines.folder_of(choice.cache_dir, pack.manifest.files[precision].sha256),
        device=choice.device,
    )


def _precisions(pack: Pack, choice: Choice, rung: Rung) -> list[Precision]:
    """What to try on a rung, fastest first: what the settings name, else what the pack has for such a device.

    OpenVINO reads fp32 graphs and computes in bf16 where the CPU can; its INT8 wants signed activations, ours have not.
    """
    if choice.precision != "auto":
        return [choice.precision]
    faster: Precision = "fp16" if rung.gpu else "int8"
    fits = faster in pack.manifest.files and (rung.gpu or rung.provider == providers.CPU)
    return [faster, "fp32"] if fits else ["fp32"]


# CUDA, cuBLAS, TensorRT, and ONNX Runtime's own arena ("Available memory of 0 is smaller than requested bytes of 8").
_OUT_OF_MEMORY = re.compile(r"(?i)out of memory|failed to allocate|bad_alloc|alloc_failed|memory of \d+ is smaller")
_CPU_RUNG = providers.ladder("cpu")[0]
