"""Which providers of ONNX Runtime really run here: each is given a tiny graph, and must answer as the CPU does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from services.common.doctor.check import Check, State
from services.common.serving import providers
from services.common.serving.providers import Plan, ProviderUnavailable, Rung

# uint8 [B, 16, 16, 3] through a convolution, a pooling and a product; tests/unit/test_doctor.py makes the file.
PROBE = Path(__file__).with_name("probe.onnx")
SHAPE = (16, 16, 3)
_NEAR = 0.05  # relative error: bf16 and TF32 have 8 to 11 bits

_FIX = {
    "tensorrt": "pip install 'claimsight[gpu]' (TensorRT 10.16); until then CUDA runs the models, a little slower.",
    "cuda": "pip install 'claimsight[gpu]', and, as the CPU build lies in the same folder, pip install --no-deps "
    f"--force-reinstall onnxruntime-gpu=={ort.__version__}. In containers: -f docker-compose.yml -f compose.gpu.yml.",
}


def examine(*, gpu: bool) -> Iterator[Check]:
    """`gpu`: this machine has one, so that a GPU provider which does not run is a fault."""
    plan = Plan(PROBE.read_bytes(), 1, "pixels", SHAPE, 2, half=False, cache_dir=None)
    rows = np.arange(2 * 16 * 16 * 3, dtype=np.uint32).reshape(2, *SHAPE).astype(np.uint8)
    tried = [(rung, _tried(rung, plan, rows)) for rung in providers.ladder("auto")]
    wanted = dict((rung.setting, answer) for rung, answer in tried)["cpu"]
    fast = any(rung.gpu and not isinstance(answer, str) for rung, answer in tried)
    for rung, answer in tried:
        name = f"provider {rung.setting}"
        if isinstance(answer, str):
            state: State = "off"
            if rung.setting == "cpu" or (rung.gpu and gpu):
                state = "warn" if fast else "fail"
            yield Check(name, state, answer, _FIX.get(rung.setting, "") if state != "off" else "")
        elif isinstance(wanted, str):
            yield Check(name, "warn", "runs, with nothing to compare it with", "Mend the CPU provider first.")
        else:
            off = float(np.linalg.norm(answer - wanted) / np.linalg.norm(wanted))
            if off <= _NEAR:
                yield Check(name, "ok", "runs" if rung.setting == "cpu" else f"runs, {off:.1e} off the CPU")
            else:
                fix = f"Do not use it: CLAIMSIGHT_SEGMENTER_PROVIDER=cpu (and _CLASSIFIER_). It is {rung.provider}."
                yield Check(name, "fail", f"answers {off:.0%} off what the CPU answers", fix)


def _tried(rung: Rung, plan: Plan, rows: NDArray[np.uint8]) -> NDArray[np.float32] | str:
    """What the probe answers on this rung, or why it does not run."""
    try:
        session = providers.open_session(rung, plan)
        answer: NDArray[np.float32] = session.run(None, {plan.input_name: rows})[0]
    except ProviderUnavailable as error:
        return str(error)
    except Exception as error:  # ONNX Runtime's own exceptions share no base class
        return f"the trial run failed: {str(error).splitlines()[0]}"
    return answer if np.isfinite(answer).all() else "the trial run answered NaN"
