"""One graph of a pack on one provider, proven against the pack's golden outputs before it may answer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from services.common.serving import providers
from services.common.serving.golden import Contract, Golden, Outputs, first_line
from services.common.serving.modelpack import Pack, PackError
from services.common.serving.providers import Plan, ProviderSetting, ProviderUnavailable, Rung
from services.common.serving.schemas import ModelRef

Precision = Literal["fp32", "fp16", "int8"]


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


class Session:
    """Runs rows through the graph. One thread uses it at a time: the batcher's."""

    def __init__(
        self,
        inner: ort.InferenceSession,
        *,
        pack: Pack,
        example: NDArray[np.uint8],
        rung: Rung,
        precision: Precision,
        max_batch: int,
    ) -> None:
        self._inner = inner
        self._example = example  # uint8 [1, h, w, 3], a row it is known to answer
        self._input = inner.get_inputs()[0].name
        self._names = [output.name for output in inner.get_outputs()]
        self._pads = rung.gpu  # engines and kernels are tuned per batch size there; on a CPU padding is only work
        self.buckets = buckets(max_batch)
        self.providers: list[str] = [name for name, _ in providers.placement(inner).most_common()]
        self.notes = ""
        self.ref = ModelRef(
            name=pack.manifest.name,
            version=pack.manifest.version,
            sha256=pack.manifest.files[precision].sha256,
            precision=precision,
            provider=rung.provider,
        )

    def run(self, rows: NDArray[np.uint8]) -> Outputs:
        """`rows`: uint8 [n, h, w, 3], n at most the largest bucket; answers float32 arrays [n, ...] by name.

        Raises NotFiniteError, or whatever ONNX Runtime raises.
        """
        n = len(rows)
        if self._pads and (padding := next(b for b in self.buckets if b >= n) - n):
            rows = np.concatenate([rows, np.zeros((padding, *rows.shape[1:]), np.uint8)])
        found = self._inner.run(self._names, {self._input: rows})
        outputs = {name: np.asarray(array[:n]) for name, array in zip(self._names, found, strict=True)}
        for name, array in outputs.items():
            if not np.isfinite(array).all():
                raise NotFiniteError(f"the output {name} holds NaN or infinity")
        return outputs

    def warm_up(self) -> float:
        """Run every batch size once: the first run of each allocates, and on a GPU compiles. Answers seconds.

        Raises PackError where the graph cannot take a batch, as one exported with a fixed batch axis cannot.
        """
        started = time.perf_counter()
        for size in self.buckets:
            rows = np.repeat(self._example, size, axis=0)
            try:
                self.run(rows)
            except Exception as error:  # ONNX Runtime's own exceptions share no base class
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
        precision = _precision(pack, choice, rung)
        plan = _plan(pack, contract, choice, precision)
        try:
            session = _open(rung, plan, pack, precision, golden.rows)
            if rung.provider == providers.CPU and precision == "fp32":
                golden.must_hold(session.run)  # this session is itself the plain CPU one: no second is needed
            else:
                golden.must_be_near(session.run)
                plain = _plan(pack, contract, choice, "fp32")
                golden.must_hold(_open(_CPU_RUNG, plain, pack, "fp32", golden.rows).run)
        except ProviderUnavailable as error:
            tried.append(f"{rung.setting}: {error}")
            continue
        session.notes = "; ".join(tried)
        return session
    wish = f"provider={choice.provider}" + (" with require_gpu" if choice.require_gpu else "")
    raise SessionError(
        f"No provider can run {pack.manifest.name} {pack.manifest.version} with {wish} ({'; '.join(tried) or 'none'}). "
        "Use provider=auto, or mend what is named here."
    )


def _open(rung: Rung, plan: Plan, pack: Pack, precision: Precision, example: NDArray[np.uint8]) -> Session:
    inner = providers.open_session(rung, plan)
    return Session(inner, pack=pack, example=example, rung=rung, precision=precision, max_batch=plan.max_batch)


def _plan(pack: Pack, contract: Contract, choice: Choice, precision: Precision) -> Plan:
    shape = pack.manifest.input
    return Plan(
        graph=pack.read(precision),
        threads=choice.threads or providers.cpu_threads(),
        input_name=contract.input_name,
        input_shape=(shape.height, shape.width, 3),
        max_batch=min(choice.max_batch, pack.manifest.max_batch),
        half=precision == "fp16",
        cache_dir=choice.cache_dir,
    )


def _precision(pack: Pack, choice: Choice, rung: Rung) -> Precision:
    if choice.precision != "auto":
        return choice.precision
    return "fp16" if rung.gpu and "fp16" in pack.manifest.files else "fp32"


_CPU_RUNG = providers.ladder("cpu")[0]
